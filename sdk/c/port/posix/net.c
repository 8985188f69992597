#include <arpa/inet.h>
#include <mbedtls/ctr_drbg.h>
#include <mbedtls/entropy.h>
#include <mbedtls/error.h>
#include <mbedtls/net_sockets.h>
#include <mbedtls/ssl.h>
#include <netdb.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "posix.h"

enum { PATIENCE_S = 10 };

static mbedtls_net_context line = {-1};
static mbedtls_ssl_context session;
static mbedtls_ssl_config settings;
static mbedtls_x509_crt trusted;
static mbedtls_entropy_context entropy;
static mbedtls_ctr_drbg_context randomness;
static bool secure;
static char why[160];

const char *net_error(void) { return why; }

static bool failed(const char *what, int code) {
  char reason[100] = "";
  if (code != 0) mbedtls_strerror(code, reason, sizeof reason);
  (void)snprintf(why, sizeof why, "%.50s: %s", what, reason);
  return false;
}

void net_close(void) {
  if (secure) {
    mbedtls_ssl_free(&session);
    mbedtls_ssl_config_free(&settings);
    mbedtls_x509_crt_free(&trusted);
    mbedtls_ctr_drbg_free(&randomness);
    mbedtls_entropy_free(&entropy);
    secure = false;
  }
  mbedtls_net_free(&line);
}

bool net_is_open(void) { return line.fd >= 0; }

/* mbedTLS before 3.5 compares no addresses: whether the certificate names this one (RFC 5280, 4.2.1.6, iPAddress). */
static bool names_address(const uint8_t *address, size_t size) {
  enum { IP_ADDRESS = MBEDTLS_ASN1_CONTEXT_SPECIFIC | 7 };
  const mbedtls_x509_crt *certificate = mbedtls_ssl_get_peer_cert(&session);
  if (certificate == NULL) return false;
  for (const mbedtls_x509_sequence *name = &certificate->subject_alt_names; name != NULL; name = name->next)
    if (name->buf.tag == IP_ADDRESS && name->buf.len == size && memcmp(name->buf.p, address, size) == 0) return true;
  return false;
}

bool net_can_trust(void *context, const char *ca_certificate) {
  mbedtls_x509_crt found;
  (void)context;
  mbedtls_x509_crt_init(&found);
  bool good = mbedtls_x509_crt_parse(&found, (const unsigned char *)ca_certificate, strlen(ca_certificate) + 1) == 0;
  mbedtls_x509_crt_free(&found);
  return good;
}

static bool shake_hands(const char *host, const char *ca_certificate) {
  mbedtls_ssl_init(&session);
  mbedtls_ssl_config_init(&settings);
  mbedtls_x509_crt_init(&trusted);
  mbedtls_ctr_drbg_init(&randomness);
  mbedtls_entropy_init(&entropy);
  secure = true;
  int code = mbedtls_ctr_drbg_seed(&randomness, mbedtls_entropy_func, &entropy, NULL, 0);
  if (code != 0) return failed("randomness", code);
  if (ca_certificate == NULL) return failed("ca_certificate: this port trusts no authority without it", 0);
  code = mbedtls_x509_crt_parse(&trusted, (const unsigned char *)ca_certificate, strlen(ca_certificate) + 1);
  if (code != 0) return failed("ca_certificate: must be certificates in PEM", code);
  code = mbedtls_ssl_config_defaults(&settings, MBEDTLS_SSL_IS_CLIENT, MBEDTLS_SSL_TRANSPORT_STREAM,
                                     MBEDTLS_SSL_PRESET_DEFAULT);
  if (code != 0) return failed("TLS", code);
  mbedtls_ssl_conf_authmode(&settings, MBEDTLS_SSL_VERIFY_REQUIRED);
  mbedtls_ssl_conf_ca_chain(&settings, &trusted, NULL);
  mbedtls_ssl_conf_rng(&settings, mbedtls_ctr_drbg_random, &randomness);
  if ((code = mbedtls_ssl_setup(&session, &settings)) != 0) return failed("TLS", code);
  uint8_t address[16];
  size_t address_size = inet_pton(AF_INET, host, address) == 1 ? 4 : inet_pton(AF_INET6, host, address) == 1 ? 16 : 0;
  if (address_size == 0 && (code = mbedtls_ssl_set_hostname(&session, host)) != 0) return failed("TLS", code);
  mbedtls_ssl_set_bio(&session, &line, mbedtls_net_send, mbedtls_net_recv, NULL);
  while ((code = mbedtls_ssl_handshake(&session)) != 0)
    if (code != MBEDTLS_ERR_SSL_WANT_READ && code != MBEDTLS_ERR_SSL_WANT_WRITE) return failed("the TLS handshake", code);
  if (address_size > 0 && !names_address(address, address_size)) return failed("the certificate is for another address", 0);
  return true;
}

bool net_open(const char *host, uint16_t port, bool tls, const char *ca_certificate) {
  char number[6];
  struct timeval patience = {PATIENCE_S, 0};
  net_close();
  (void)snprintf(number, sizeof number, "%u", (unsigned)port);
  int code = mbedtls_net_connect(&line, host, number, MBEDTLS_NET_PROTO_TCP);
  if (code != 0) return failed("the connection", code);
  (void)setsockopt(line.fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  (void)setsockopt(line.fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
  if (!tls || shake_hands(host, ca_certificate)) return true;
  net_close();
  return false;
}

bool net_send(const void *data, size_t size) {
  const unsigned char *at = data;
  while (size > 0) {
    int sent = secure ? mbedtls_ssl_write(&session, at, size) : mbedtls_net_send(&line, at, size);
    if (sent <= 0) return failed("sending", sent);
    at += sent;
    size -= (size_t)sent;
  }
  return true;
}

int net_receive(void *data, size_t size, uint32_t wait_ms) {
  struct pollfd ready = {line.fd, POLLIN, 0};
  bool waiting = secure && mbedtls_ssl_get_bytes_avail(&session) > 0;
  if (!waiting && poll(&ready, 1, (int)wait_ms) <= 0) return 0;
  int taken = secure ? mbedtls_ssl_read(&session, data, size) : mbedtls_net_recv(&line, data, size);
  if (taken > 0) return taken;
  if (taken == MBEDTLS_ERR_SSL_WANT_READ || taken == MBEDTLS_ERR_SSL_WANT_WRITE) return 0;
  (void)failed("the broker ended the connection", taken == MBEDTLS_ERR_SSL_PEER_CLOSE_NOTIFY ? 0 : taken);
  return -1;
}
