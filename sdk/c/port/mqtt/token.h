/* An access token as the password of a login: docs/protocol.md, A broker that wants tokens. */
#ifndef MDM_TOKEN_H
#define MDM_TOKEN_H
#include "mdm.h"

/* Fetches a new token over the line, which is closed before and afterwards. Returns NULL and the token, in `memory`, which
 * the caller frees in any case; else why there is none, and whether the token URL has refused the secret. */
const char *mdm_token_fetch(const struct mdm_login *login, char **memory, const char **token, bool *refused);
#endif
