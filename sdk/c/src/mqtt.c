/* MQTT 3.1.1: the numbers of sections are those of the standard. */
#include "mdm_mqtt.h"

#include "core.h"

enum { CONNECT = 0x10, CONNACK = 0x20, PUBLISH = 0x30, PUBACK = 0x40, SUBSCRIBE = 0x82, SUBACK = 0x90 };
enum { PINGREQ = 0xC0, PINGRESP = 0xD0, DISCONNECT = 0xE0, QOS_1 = 0x02 };
enum { CLEAN = 0x02, WILL = 0x04, WILL_QOS_1 = 0x08, WILL_RETAIN = 0x20, PASSWORD = 0x40, USER_NAME = 0x80 };

static void put_u16(struct mdm_out *out, size_t value) {
  if (value > UINT16_MAX) out->full = true;
  mdm_put_u64(out, value >> 8, 1);
  mdm_put_u64(out, value, 1);
}

static void put_text(struct mdm_out *out, const char *text) {
  put_u16(out, strlen(text));
  mdm_put_text(out, text);
}

/* 2.2: the type, and the length of the rest in groups of seven bits, lowest first. */
static struct mdm_out begin(uint8_t *to, size_t capacity, uint8_t type, size_t rest) {
  struct mdm_out out = {(char *)to, (char *)to + capacity, rest > 0xFFFFFFF};
  mdm_put_u64(&out, type, 1);
  do {
    mdm_put_u64(&out, (rest & 0x7F) | (rest > 0x7F ? 0x80 : 0), 1);
    rest >>= 7;
  } while (rest > 0);
  return out;
}

static size_t end(const struct mdm_out *out, const uint8_t *to) { return out->full ? 0 : (size_t)(out->at - (const char *)to); }

size_t mdm_mqtt_connect(uint8_t *to, size_t capacity, const struct mdm_login *login) {
  size_t rest = 10 + 6 + strlen(login->client_id) + strlen(login->username) + strlen(login->password);
  uint8_t flags = USER_NAME | PASSWORD;
  if (login->clean_session) flags |= CLEAN;
  if (login->will_topic != NULL) {
    rest += 4 + strlen(login->will_topic) + strlen(login->will);
    flags |= WILL | WILL_QOS_1 | WILL_RETAIN;
  }
  struct mdm_out out = begin(to, capacity, CONNECT, rest);
  put_text(&out, "MQTT");
  mdm_put_u64(&out, 4, 1);
  mdm_put_u64(&out, flags, 1);
  put_u16(&out, MDM_MQTT_KEEPALIVE_S);
  put_text(&out, login->client_id);
  if (login->will_topic != NULL) {
    put_text(&out, login->will_topic);
    put_text(&out, login->will);
  }
  put_text(&out, login->username);
  put_u16(&out, strlen(login->password));
  return end(&out, to);
}

size_t mdm_mqtt_subscribe(uint8_t *to, size_t capacity, uint16_t id, const char *topic) {
  struct mdm_out out = begin(to, capacity, SUBSCRIBE, 5 + strlen(topic));
  put_u16(&out, id);
  put_text(&out, topic);
  mdm_put_u64(&out, 1, 1);
  return end(&out, to);
}

size_t mdm_mqtt_publish(uint8_t *to, size_t capacity, uint16_t id, const char *topic, size_t payload_size, bool retain) {
  uint8_t type = (uint8_t)(PUBLISH | (id > 0 ? QOS_1 : 0) | retain);
  struct mdm_out out = begin(to, capacity, type, 2 + strlen(topic) + (id > 0 ? 2 : 0) + payload_size);
  put_text(&out, topic);
  if (id > 0) put_u16(&out, id);
  return end(&out, to);
}

size_t mdm_mqtt_puback(uint8_t *to, size_t capacity, uint16_t id) {
  struct mdm_out out = begin(to, capacity, PUBACK, 2);
  put_u16(&out, id);
  return end(&out, to);
}

static size_t bare(uint8_t *to, size_t capacity, uint8_t type) {
  struct mdm_out out = begin(to, capacity, type, 0);
  return end(&out, to);
}

size_t mdm_mqtt_ping(uint8_t *to, size_t capacity) { return bare(to, capacity, PINGREQ); }
size_t mdm_mqtt_disconnect(uint8_t *to, size_t capacity) { return bare(to, capacity, DISCONNECT); }

/* ---- Reading ---- */

enum { TYPE, LENGTH, HEAD, TOPIC, PAYLOAD, FAILED };

static size_t least(size_t one, size_t other) { return one < other ? one : other; }

/* What follows the fixed header of a packet, by its type; MDM_MQTT_BROKEN if that cannot be. */
static enum mdm_mqtt_kind begin_packet(struct mdm_mqtt_reader *reader) {
  reader->taken = 0;
  switch (reader->first & 0xF0) {
    case CONNACK:
    case PUBACK:
      reader->state = HEAD;
      return reader->left == 2 ? MDM_MQTT_MORE : MDM_MQTT_BROKEN;
    case SUBACK:
      reader->state = HEAD;
      return reader->left == 3 ? MDM_MQTT_MORE : MDM_MQTT_BROKEN;
    case PINGRESP:
      reader->state = TYPE;
      return reader->left == 0 ? MDM_MQTT_PONG : MDM_MQTT_BROKEN;
    case PUBLISH:
      reader->state = TOPIC;
      reader->offset = 0;
      return (reader->first & 6) < 4 && reader->left >= 2 ? MDM_MQTT_MORE : MDM_MQTT_BROKEN;
    default:
      return MDM_MQTT_BROKEN;
  }
}

static enum mdm_mqtt_kind take_length(struct mdm_mqtt_reader *reader, uint8_t byte) {
  reader->left |= (uint32_t)(byte & 0x7F) << reader->scale;
  reader->scale += 7;
  if (byte & 0x80) return reader->scale < 28 ? MDM_MQTT_MORE : MDM_MQTT_BROKEN;
  return begin_packet(reader);
}

static enum mdm_mqtt_kind take_head(struct mdm_mqtt_reader *reader, uint8_t byte, struct mdm_mqtt_event *event) {
  reader->head[reader->taken++] = byte;
  if (--reader->left > 0) return MDM_MQTT_MORE;
  reader->state = TYPE;
  event->code = reader->head[reader->taken - 1];
  event->id = (uint16_t)(reader->head[0] << 8 | reader->head[1]);
  uint8_t type = reader->first & 0xF0;
  return type == CONNACK ? MDM_MQTT_CONNACK : type == PUBACK ? MDM_MQTT_PUBACK : MDM_MQTT_SUBACK;
}

static enum mdm_mqtt_kind begin_payload(struct mdm_mqtt_reader *reader) {
  reader->state = PAYLOAD;
  reader->total = reader->left;
  return MDM_MQTT_MORE;
}

/* The topic with its length (2 bytes), and with QoS 1 the packet identifier. */
static enum mdm_mqtt_kind take_topic(struct mdm_mqtt_reader *reader, uint8_t byte) {
  reader->left--;
  size_t at = reader->taken++;
  if (at < 2) {
    reader->topic_size = at == 0 ? (size_t)byte << 8 : reader->topic_size | byte;
    if (at == 0) return reader->left > 0 ? MDM_MQTT_MORE : MDM_MQTT_BROKEN;
    size_t needed = reader->topic_size + (reader->first & 2 ? 2 : 0);
    if (reader->topic_size > MDM_MQTT_TOPIC_MAX || reader->topic_size == 0 || needed > reader->left) return MDM_MQTT_BROKEN;
    return MDM_MQTT_MORE;
  }
  if (at - 2 < reader->topic_size) {
    reader->topic[at - 2] = (char)byte;
    reader->topic[at - 1] = '\0';
    bool is_whole = at - 1 == reader->topic_size;
    return is_whole && !(reader->first & 2) ? begin_payload(reader) : MDM_MQTT_MORE;
  }
  reader->id = (uint16_t)(reader->id << 8 | byte);
  return at - 2 > reader->topic_size ? begin_payload(reader) : MDM_MQTT_MORE;
}

size_t mdm_mqtt_read(struct mdm_mqtt_reader *reader, const uint8_t *data, size_t size, struct mdm_mqtt_event *event) {
  size_t at = 0;
  memset(event, 0, sizeof *event);
  while (event->kind == MDM_MQTT_MORE && reader->state != PAYLOAD && at < size) {
    uint8_t byte = data[at++];
    if (reader->state == TYPE) {
      reader->first = byte;
      reader->left = reader->scale = 0;
      reader->state = LENGTH;
    } else if (reader->state == LENGTH) {
      event->kind = take_length(reader, byte);
    } else if (reader->state == HEAD) {
      event->kind = take_head(reader, byte, event);
    } else if (reader->state == TOPIC) {
      event->kind = take_topic(reader, byte);
    } else {
      event->kind = MDM_MQTT_BROKEN;
    }
  }
  if (event->kind == MDM_MQTT_BROKEN) reader->state = FAILED;
  if (reader->state != PAYLOAD || (at == size && reader->left > 0)) return at;
  event->kind = MDM_MQTT_PUBLISH;
  event->qos = reader->first >> 1 & 3;
  event->id = reader->id;
  event->data = data + at;
  event->size = least(size - at, reader->left);
  event->offset = reader->offset;
  event->total = reader->total;
  reader->offset += event->size;
  reader->left -= (uint32_t)event->size;
  if (reader->left == 0) reader->state = TYPE;
  return at + event->size;
}
