#include "crypto.h"

#include <psa/crypto.h>
#include <string.h>

bool mdm_psa_begin(void) { return psa_crypto_init() == PSA_SUCCESS; }

static bool random_bytes(void *context, uint8_t *bytes, size_t size) {
  (void)context;
  return psa_generate_random(bytes, size) == PSA_SUCCESS;
}

static bool sha256(void *context, const void *data, size_t size, uint8_t digest[32]) {
  size_t length;
  (void)context;
  return psa_hash_compute(PSA_ALG_SHA_256, data, size, digest, 32, &length) == PSA_SUCCESS;
}

static psa_key_id_t import(psa_key_type_t type, psa_key_usage_t usage, psa_algorithm_t algorithm, const void *key,
                           size_t size) {
  psa_key_attributes_t attributes = PSA_KEY_ATTRIBUTES_INIT;
  psa_key_id_t id = 0;
  psa_set_key_type(&attributes, type);
  psa_set_key_bits(&attributes, type == PSA_KEY_TYPE_ECC_KEY_PAIR(PSA_ECC_FAMILY_MONTGOMERY) ? 255 : size * 8);
  psa_set_key_usage_flags(&attributes, usage);
  psa_set_key_algorithm(&attributes, algorithm);
  return psa_import_key(&attributes, key, size, &id) == PSA_SUCCESS ? id : 0;
}

static bool hmac_sha256(void *context, const void *key, size_t key_size, const void *data, size_t size, uint8_t mac[32]) {
  const psa_algorithm_t algorithm = PSA_ALG_HMAC(PSA_ALG_SHA_256);
  psa_key_id_t id = import(PSA_KEY_TYPE_HMAC, PSA_KEY_USAGE_SIGN_MESSAGE, algorithm, key, key_size);
  size_t length;
  (void)context;
  bool good = id != 0 && psa_mac_compute(id, algorithm, data, size, mac, 32, &length) == PSA_SUCCESS;
  psa_destroy_key(id);
  return good;
}

static bool x25519(void *context, const uint8_t own[32], const uint8_t *peer, uint8_t shared[32]) {
  psa_key_id_t id = import(PSA_KEY_TYPE_ECC_KEY_PAIR(PSA_ECC_FAMILY_MONTGOMERY), PSA_KEY_USAGE_DERIVE, PSA_ALG_ECDH,
                           own, 32);
  size_t length;
  (void)context;
  bool good = id != 0 && (peer == NULL ? psa_export_public_key(id, shared, 32, &length)
                                       : psa_raw_key_agreement(PSA_ALG_ECDH, id, peer, 32, shared, 32, &length)) ==
                             PSA_SUCCESS;
  psa_destroy_key(id);
  return good;
}

static bool open_aes256gcm(void *context, const uint8_t key[32], const uint8_t iv[12], const void *more,
                           size_t more_size, uint8_t *data, size_t size) {
  psa_key_id_t id = import(PSA_KEY_TYPE_AES, PSA_KEY_USAGE_DECRYPT, PSA_ALG_GCM, key, 32);
  size_t length;
  (void)context;
  bool good = id != 0 && psa_aead_decrypt(id, PSA_ALG_GCM, iv, 12, more, more_size, data, size, data, size, &length) ==
                             PSA_SUCCESS;
  psa_destroy_key(id);
  return good;
}

void mdm_psa_use(struct mdm_port *port) {
  port->random = random_bytes;
  port->sha256 = sha256;
  port->hmac_sha256 = hmac_sha256;
  port->x25519 = x25519;
  port->open_aes256gcm = open_aes256gcm;
}
