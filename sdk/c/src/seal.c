/* Proofs, the recovery's MAC, and sealed texts: docs/protocol.md, Opening a JWE. */
#include "core.h"

bool mdm_make_key(struct mdm *m) { return m->port->random(m->port->context, m->key, sizeof m->key); }

bool mdm_public_key(struct mdm *m) {
  uint8_t key[32];
  struct mdm_out out = {m->public_key, m->public_key + 43, false};
  if (!m->port->x25519(m->port->context, m->key, NULL, key)) return false;
  mdm_put_base64url(&out, key, sizeof key);
  m->public_key[43] = '\0';
  return !out.full;
}

static bool is_zero(const uint8_t bytes[32]) {
  uint8_t any = 0;
  for (size_t i = 0; i < 32; i++) any |= bytes[i];
  return any == 0;
}

/* RFC 7748, 6.1: a shared secret of zeros comes from a point of low order. */
static bool exchange(struct mdm *m, const uint8_t peer[32], uint8_t shared[32]) {
  return m->port->x25519(m->port->context, m->key, peer, shared) && !is_zero(shared);
}

/* Puts the MAC of the text that has been written from `begin` on, in its place, as the member `name`. */
static bool put_mac(struct mdm *m, struct mdm_out *out, const char *name, const void *key, size_t key_size, char *begin) {
  uint8_t mac[32];
  if (out->full) return false;
  if (!m->port->hmac_sha256(m->port->context, key, key_size, begin, (size_t)(out->at - begin), mac)) return false;
  out->at = begin;
  mdm_put_hash(out, name, mac);
  return !out->full;
}

bool mdm_put_proof(struct mdm *m, struct mdm_out *out, const char *name, const char *secret, const char *word,
                   const char *text) {
  char *begin = out->at;
  mdm_put_text(out, word);
  mdm_put_text(out, ":");
  mdm_put_text(out, text);
  return put_mac(m, out, name, secret, strlen(secret), begin);
}

bool mdm_put_recovery_mac(struct mdm *m, struct mdm_out *out) {
  static const uint8_t SALT[32] = {0};
  static const char INFO[] = "mdm/v1/recover\x01"; /* the last byte is the first counter of HKDF-Expand */
  const struct mdm_port *port = m->port;
  uint8_t shared[32], key[32];
  if (!exchange(m, m->recovery.server_key, shared)) return false;
  if (!port->hmac_sha256(port->context, SALT, sizeof SALT, shared, sizeof shared, key)) return false;
  if (!port->hmac_sha256(port->context, key, sizeof key, INFO, sizeof INFO - 1, shared)) return false;
  char *begin = out->at;
  mdm_put_text(out, "recover:");
  mdm_put_text(out, m->client_id);
  mdm_put_text(out, ":");
  mdm_put_text(out, m->nonce);
  return put_mac(m, out, "mac", shared, sizeof shared, begin);
}

/* Reads the sender's public key from the header of a JWE. */
static bool sender(struct mdm *m, const char *header, size_t size, uint8_t peer[32]) {
  static const char *const NAMES[] = {"alg", "enc", "epk", "crit", "zip", NULL};
  static const char *const KEY_NAMES[] = {"kty", "crv", "x", NULL};
  struct mdm_json found[5], key[3];
  int32_t length = mdm_from_base64url(header, size, (uint8_t *)m->out, MDM_OUT_BYTES);
  return length > 0 && mdm_json_object(m->out, (size_t)length, NAMES, found) && mdm_json_is(&found[0], "ECDH-ES") &&
         mdm_json_is(&found[1], "A256GCM") && found[2].kind == '{' && found[3].kind == 0 && found[4].kind == 0 &&
         mdm_json_object(found[2].at, found[2].size, KEY_NAMES, key) && mdm_json_is(&key[0], "OKP") &&
         mdm_json_is(&key[1], "X25519") && key[2].kind == '"' &&
         mdm_from_base64url(key[2].at, key[2].size, peer, 32) == 32;
}

/* RFC 7518, 4.6: SHA-256 over a counter, the shared secret, the algorithm, two empty parties and the key's bits. */
static bool content_key(struct mdm *m, const uint8_t peer[32], uint8_t key[32]) {
  static const uint8_t BEHIND[] = {0, 0, 0, 7, 'A', '2', '5', '6', 'G', 'C', 'M', 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0};
  uint8_t hashed[4 + 32 + sizeof BEHIND] = {0, 0, 0, 1};
  if (!exchange(m, peer, hashed + 4)) return false;
  memcpy(hashed + 36, BEHIND, sizeof BEHIND);
  return m->port->sha256(m->port->context, hashed, sizeof hashed, key);
}

char *mdm_unseal(struct mdm *m, char *jwe, size_t size, size_t *opened) {
  char *part[5];
  size_t length[5];
  uint8_t peer[32], key[32], iv[12];
  for (size_t i = 0; i < 5; i++) {
    char *dot = i < 4 ? memchr(jwe, '.', size) : jwe + size;
    if (dot == NULL) return NULL;
    part[i] = jwe;
    length[i] = (size_t)(dot - jwe);
    if (i < 4) size -= length[i] + 1;
    jwe = dot + 1;
  }
  if (length[1] != 0 || !sender(m, part[0], length[0], peer)) return NULL;
  if (mdm_from_base64url(part[2], length[2], iv, sizeof iv) != sizeof iv) return NULL;
  /* Decoded in place: the tag comes behind the text, where its digits were or before them. */
  int32_t text = mdm_from_base64url(part[3], length[3], (uint8_t *)part[3], length[3]);
  if (text < 0 || mdm_from_base64url(part[4], length[4], (uint8_t *)part[3] + text, 16) != 16) return NULL;
  if (!content_key(m, peer, key)) return NULL;
  if (!m->port->open_aes256gcm(m->port->context, key, iv, part[0], length[0], (uint8_t *)part[3], (size_t)text + 16))
    return NULL;
  *opened = (size_t)text;
  part[3][text] = '\0';
  return part[3];
}
