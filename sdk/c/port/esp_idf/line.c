/* One connection by esp-tls, with TLS or without. */
#include <esp_log.h>
#include <esp_timer.h>
#include <esp_tls.h>
#include <stdio.h>
#include <string.h>
#include <sys/select.h>

#include "board.h"
#include "broker.h"
#include <sdkconfig.h>
#if CONFIG_MBEDTLS_CERTIFICATE_BUNDLE
#include <esp_crt_bundle.h>
#endif

enum { PATIENCE_MS = 10000 };

static esp_tls_t *line;
static bool secure;
static const char *why = "";

const char *mdm_line_error(void) { return why; }

static bool failed(const char *reason) {
  why = reason;
  return false;
}

bool mdm_line_is_open(void) { return line != NULL; }

void mdm_line_close(void) {
  if (line != NULL) (void)esp_tls_conn_destroy(line);
  line = NULL;
}

bool mdm_line_open(const struct mdm_login *login) {
  esp_tls_cfg_t settings = {.timeout_ms = PATIENCE_MS, .is_plain_tcp = !login->tls};
  mdm_line_close();
  secure = login->tls;
  if (login->tls && login->ca_certificate != NULL) {
    settings.cacert_buf = (const unsigned char *)login->ca_certificate;
    settings.cacert_bytes = (unsigned)strlen(login->ca_certificate) + 1;
  } else if (login->tls) {
#if CONFIG_MBEDTLS_CERTIFICATE_BUNDLE
    settings.crt_bundle_attach = esp_crt_bundle_attach;
#else
    return failed("the package has no ca_certificate, and this firmware no bundle of them");
#endif
  }
  line = esp_tls_init();
  if (line == NULL) return failed("out of memory");
  if (esp_tls_conn_new_sync(login->host, (int)strlen(login->host), login->port, &settings, line) == 1) return true;
  mdm_line_close();
  return failed("no connection, or the certificate is not trusted: the lines of esp-tls say which");
}

bool mdm_line_send(const void *data, size_t size) {
  const char *at = data;
  while (size > 0) {
    ssize_t sent = esp_tls_conn_write(line, at, size);
    if (sent <= 0) return failed("sending");
    at += sent;
    size -= (size_t)sent;
  }
  return true;
}

/* Returns whether bytes have come, within `wait_ms`. */
static bool waits_for(uint32_t wait_ms) {
  struct timeval wait = {.tv_sec = (time_t)(wait_ms / 1000), .tv_usec = (suseconds_t)(wait_ms % 1000 * 1000)};
  fd_set ready;
  int socket = -1;
  if (esp_tls_get_conn_sockfd(line, &socket) != ESP_OK || socket < 0) return true; /* reading says what is wrong */
  FD_ZERO(&ready);
  FD_SET(socket, &ready);
  return select(socket + 1, &ready, NULL, NULL, &wait) != 0;
}

int mdm_line_receive(void *data, size_t size, uint32_t wait_ms) {
  if (!mdm_wifi_is_there()) {
    why = "the network is gone";
    return -1;
  }
  bool waiting = secure && esp_tls_get_bytes_avail(line) > 0;
  if (!waiting && !waits_for(wait_ms)) return 0;
  ssize_t taken = esp_tls_conn_read(line, data, size);
  if (taken > 0) return (int)taken;
  if (taken == ESP_TLS_ERR_SSL_WANT_READ || taken == ESP_TLS_ERR_SSL_WANT_WRITE) return 0;
  why = "the broker ended the connection";
  return -1;
}

uint64_t mdm_line_now_ms(void) { return (uint64_t)esp_timer_get_time() / 1000; }

void mdm_line_note(bool bad, const char *what, const char *which) {
  if (bad) {
    ESP_LOGW("mdm", "%s: %s", what, which);
  } else {
    ESP_LOGI("mdm", "%s %s", what, which);
  }
}

/* A line of the log for each would be published, and so make another one. */
void mdm_line_carries(enum mdm_traffic what, const char *topic) { (void)what, (void)topic; }
