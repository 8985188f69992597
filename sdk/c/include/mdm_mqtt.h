/* MQTT 3.1.1 (OASIS, 2014) as far as a device needs it, without I/O: bytes in and out, memory is the caller's.
 *
 * For ports without a library that acknowledges a message when told to, and no earlier. One message is under way at a
 * time in each direction, as mdm.h has it, so a packet identifier is all there is to remember. */
#ifndef MDM_MQTT_H
#define MDM_MQTT_H
#include "mdm.h"

#define MDM_MQTT_TOPIC_MAX 255
#define MDM_MQTT_KEEPALIVE_S 30

/* Each writes a packet to `to` and returns its length, or 0 if it exceeds `capacity`. */
/* Only the part before the password, which follows: a token is larger than all else. */
size_t mdm_mqtt_connect(uint8_t *to, size_t capacity, const struct mdm_login *login);
size_t mdm_mqtt_subscribe(uint8_t *to, size_t capacity, uint16_t id, const char *topic);
size_t mdm_mqtt_puback(uint8_t *to, size_t capacity, uint16_t id);
size_t mdm_mqtt_ping(uint8_t *to, size_t capacity);
size_t mdm_mqtt_disconnect(uint8_t *to, size_t capacity);
/* Only the part before the payload, which has `payload_size` bytes and follows. QoS 1, or 0 if `id` is 0. */
size_t mdm_mqtt_publish(uint8_t *to, size_t capacity, uint16_t id, const char *topic, size_t payload_size, bool retain);

enum mdm_mqtt_kind {
  MDM_MQTT_MORE,      /* give more bytes */
  MDM_MQTT_CONNACK,   /* `code`: 0 accepted, 4 and 5 refused */
  MDM_MQTT_SUBACK,    /* `code`: 0 to 2 granted, 128 refused */
  MDM_MQTT_PUBACK,    /* `id` */
  MDM_MQTT_PONG,
  MDM_MQTT_PUBLISH,   /* a part of a message: `data`, `size`, `offset`, `total`; of a part with size 0 there is one */
  MDM_MQTT_BROKEN     /* the other side violates the protocol: end the connection */
};

struct mdm_mqtt_event {
  enum mdm_mqtt_kind kind;
  uint8_t code, qos;
  uint16_t id;
  const uint8_t *data;
  size_t size, offset, total;
};

/* Begin with all bytes 0. After MDM_MQTT_PUBLISH, `topic` has `topic_size` characters. */
struct mdm_mqtt_reader {
  uint8_t state, first;
  uint32_t left, scale;
  size_t taken, total, offset, topic_size;
  uint16_t id;
  uint8_t head[4];
  char topic[MDM_MQTT_TOPIC_MAX + 1];
};

/* Reads from `data` up to the next event; returns how many bytes it has taken. */
size_t mdm_mqtt_read(struct mdm_mqtt_reader *reader, const uint8_t *data, size_t size, struct mdm_mqtt_event *event);
#endif
