/* The core as a shared library, for tests that drive it from Python. */
#include "../port/psa/crypto.h"
#include "core.h"

size_t mdm_test_size(void);
size_t mdm_test_size(void) { return sizeof(struct mdm); }
