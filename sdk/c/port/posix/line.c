/* The line to the broker, by net.c; what happens on it goes to standard error. */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "broker.h"
#include "posix.h"

bool mdm_line_open(const struct mdm_login *login) {
  return net_open(login->host, login->port, login->tls, login->ca_certificate);
}

bool mdm_line_send(const void *data, size_t size) { return net_send(data, size); }

int mdm_line_receive(void *data, size_t size, uint32_t wait_ms) { return net_receive(data, size, wait_ms); }

bool mdm_line_is_open(void) { return net_is_open(); }

void mdm_line_close(void) { net_close(); }

const char *mdm_line_error(void) { return net_error(); }

uint64_t mdm_line_now_ms(void) {
  struct timespec now;
  (void)clock_gettime(CLOCK_MONOTONIC, &now);
  return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

void mdm_line_note(bool bad, const char *what, const char *which) {
  (void)fprintf(stderr, bad ? "%s: %s\n" : "%s %s\n", what, which);
}

/* Around a publication are points of power cuts, such as publish.config.get:before. */
void mdm_line_carries(enum mdm_traffic what, const char *topic) {
  static char point[64];
  if (what == MDM_RECEIVED) {
    mdm_line_note(false, "received", topic);
  } else if (what == MDM_PUBLISHES) {
    const char *up = strstr(topic, "/up/");
    mdm_line_note(false, "publishing", topic);
    (void)snprintf(point, sizeof point, "publish.%.50s", up == NULL ? "request" : up + 4);
    for (char *at = point; *at != '\0'; at++)
      if (*at == '/') *at = '.';
    files_fault(point, "before");
  } else {
    files_fault(point, "after");
  }
}
