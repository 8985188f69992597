/* The cryptography of a port by PSA Crypto, which mbedTLS 2.28 and later and ESP-IDF 5.2 and later have. */
#ifndef MDM_PSA_CRYPTO_H
#define MDM_PSA_CRYPTO_H
#include "mdm.h"

bool mdm_psa_begin(void);
/* Sets all functions of `port` but `load`. */
void mdm_psa_use(struct mdm_port *port);
#endif
