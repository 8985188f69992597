#include "broker.h"

#include <stdlib.h>
#include <string.h>

#include "mdm_mqtt.h"
#include "token.h"

enum { PACKET_BYTES = 1280, RECEIVE_BYTES = 1460, DUMP_BYTES = 512 };

static struct mdm *device;
static struct mdm_mqtt_reader reader;
static uint16_t packet_id, message_id;
static uint64_t spoken_at, heard_at;
static bool pinged;
static uint8_t packet[PACKET_BYTES], received[RECEIVE_BYTES];

void mdm_broker_begin(struct mdm *m) { device = m; }

static void lose(const char *reason) {
  mdm_line_note(true, "connection lost", reason);
  mdm_line_close();
  mdm_on_lost(device);
}

/* Sends a packet, of which a size of 0 says that it did not fit, and what follows it; false: the connection is lost. */
static bool send_packet(size_t size, const void *payload, size_t payload_size) {
  if (!mdm_line_is_open()) return false; /* lost a moment ago: the device knows */
  spoken_at = mdm_line_now_ms();
  bool sent = size > 0 && mdm_line_send(packet, size) && (payload_size == 0 || mdm_line_send(payload, payload_size));
  if (!sent) lose(size == 0 ? "a packet exceeds the buffer" : mdm_line_error());
  return sent;
}

static uint16_t next_id(void) {
  packet_id = packet_id == UINT16_MAX ? 1 : (uint16_t)(packet_id + 1);
  return packet_id;
}

static void enter(const struct mdm_login *login) {
  memset(&reader, 0, sizeof reader);
  pinged = false;
  heard_at = mdm_line_now_ms();
  mdm_line_note(false, "connecting to", login->host);
  if (mdm_line_open(login)) {
    (void)send_packet(mdm_mqtt_connect(packet, sizeof packet, login), login->password, strlen(login->password));
  } else {
    lose(mdm_line_error());
  }
}

static void refuse(const char *by) {
  mdm_line_note(true, "the secret is refused", by);
  mdm_line_close();
  mdm_on_refused(device);
}

void mdm_broker_connect(const struct mdm_login *login) {
  struct mdm_login with_token = *login;
  char *memory = NULL;
  const char *error = NULL;
  bool refused = false;
  if (login->use_token) error = mdm_token_fetch(login, &memory, &with_token.password, &refused);
  if (refused) {
    refuse(error);
  } else if (error != NULL) {
    lose(error);
  } else {
    enter(&with_token);
  }
  free(memory);
}

/* The piece of a core dump that follows a message, straight from the flash. */
static void send_dump(uint32_t offset, uint32_t size) {
  while (size > 0) {
    uint32_t some = size < DUMP_BYTES ? size : DUMP_BYTES;
    if (!mdm_line_read_dump(offset, packet, some)) {
      lose("the core dump cannot be read");
      return;
    }
    if (!send_packet(some, NULL, 0)) return;
    offset += some;
    size -= some;
  }
}

void mdm_broker_publish(const struct mdm_action *action) {
  mdm_line_carries(MDM_PUBLISHES, action->topic);
  size_t size = action->size + action->dump_size;
  size_t head = mdm_mqtt_publish(packet, sizeof packet, next_id(), action->topic, size, action->retain);
  if (send_packet(head, action->data, action->size)) send_dump(action->dump_offset, action->dump_size);
}

bool mdm_broker_post(const char *topic, const void *data, size_t size) {
  return send_packet(mdm_mqtt_publish(packet, sizeof packet, 0, topic, size, false), data, size);
}

static void on_event(const struct mdm_mqtt_event *event) {
  switch (event->kind) {
    case MDM_MQTT_CONNACK:
      if (event->code == 0) {
        mdm_on_connected(device);
      } else if (event->code == 4 || event->code == 5) {
        refuse("the broker");
      } else {
        lose("the broker is not ready");
      }
      break;
    case MDM_MQTT_SUBACK:
      if (event->code > 2) {
        lose("the broker refused the subscription");
      } else {
        mdm_on_acknowledged(device);
      }
      break;
    case MDM_MQTT_PUBACK:
      if (event->id != packet_id) break;
      mdm_line_carries(MDM_PUBLISHED, NULL);
      mdm_on_acknowledged(device);
      break;
    case MDM_MQTT_PUBLISH:
      message_id = event->qos > 0 ? event->id : 0;
      if (event->offset == 0) mdm_line_carries(MDM_RECEIVED, reader.topic);
      if (!mdm_on_message(device, reader.topic, reader.topic_size, event->data, event->size, event->offset, event->total))
        lose("a message came while another one was under way");
      break;
    case MDM_MQTT_BROKEN:
      lose("the broker violates MQTT");
      break;
    case MDM_MQTT_PONG:
    case MDM_MQTT_MORE:
      break;
  }
}

static void keep_alive(void) {
  uint64_t now = mdm_line_now_ms(), pause = MDM_MQTT_KEEPALIVE_S * 500;
  if (now - heard_at > 3 * pause) {
    lose("the broker does not answer");
  } else if (now - spoken_at > pause || (now - heard_at > 2 * pause && !pinged)) {
    pinged = true;
    (void)send_packet(mdm_mqtt_ping(packet, sizeof packet), NULL, 0);
  }
}

void mdm_broker_receive(uint32_t wait_ms, void (*carry_out_all)(void)) {
  int size = mdm_line_receive(received, sizeof received, wait_ms);
  if (size < 0) {
    lose(mdm_line_error());
    return;
  }
  if (size == 0) {
    keep_alive();
    return;
  }
  heard_at = mdm_line_now_ms();
  pinged = false;
  for (size_t at = 0; at < (size_t)size && mdm_line_is_open();) {
    struct mdm_mqtt_event event;
    at += mdm_mqtt_read(&reader, received + at, (size_t)size - at, &event);
    on_event(&event);
    carry_out_all();
  }
}

void mdm_broker_subscribe(const char *topic) {
  (void)send_packet(mdm_mqtt_subscribe(packet, sizeof packet, next_id(), topic), NULL, 0);
}

void mdm_broker_acknowledge(void) {
  if (message_id != 0) (void)send_packet(mdm_mqtt_puback(packet, sizeof packet, message_id), NULL, 0);
}

void mdm_broker_leave(void) {
  (void)send_packet(mdm_mqtt_disconnect(packet, sizeof packet), NULL, 0);
  mdm_line_close();
}
