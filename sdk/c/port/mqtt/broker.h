/* The connection to the broker by mdm_mqtt.h, for ports whose MQTT library acknowledges messages by itself: a message
 * is acknowledged when the core says so. One connection, one thread. */
#ifndef MDM_BROKER_H
#define MDM_BROKER_H
#include "mdm.h"

void mdm_broker_begin(struct mdm *m);
void mdm_broker_connect(const struct mdm_login *login);
void mdm_broker_subscribe(const char *topic);
void mdm_broker_publish(const struct mdm_action *action);
/* Sends a message of the application with QoS 0; false: it could not be sent. */
bool mdm_broker_post(const char *topic, const void *data, size_t size);
void mdm_broker_acknowledge(void); /* the message that came last */
void mdm_broker_leave(void);
/* Waits at most `wait_ms` for bytes; each event of them is told to the device, and followed by `carry_out_all`. */
void mdm_broker_receive(uint32_t wait_ms, void (*carry_out_all)(void));

/* ---- What the port provides ---- */

bool mdm_line_open(const struct mdm_login *login); /* to `host` and `port`, with TLS if `tls` */
bool mdm_line_send(const void *data, size_t size);
/* Waits at most `wait_ms`; returns the number of bytes, 0 if none came, -1 if the connection has ended. */
int mdm_line_receive(void *data, size_t size, uint32_t wait_ms);
bool mdm_line_is_open(void);
void mdm_line_close(void);
const char *mdm_line_error(void); /* of the last call that failed: a line for people */
bool mdm_line_read_dump(uint32_t offset, void *data, size_t size);
uint64_t mdm_line_now_ms(void);
void mdm_line_note(bool bad, const char *what, const char *which); /* for the local log */
/* What a message on the line has come to: for tests, which cut the power there. `topic` is NULL for MDM_PUBLISHED. */
enum mdm_traffic { MDM_PUBLISHES, MDM_PUBLISHED, MDM_RECEIVED };
void mdm_line_carries(enum mdm_traffic what, const char *topic);
#endif
