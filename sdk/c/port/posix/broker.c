/* One connection to the broker, over MQTT 3.1.1: what is heard becomes events of the device. */
#include <stdio.h>
#include <string.h>

#include "mdm_mqtt.h"
#include "posix.h"

enum { PACKET_BYTES = 2048, RECEIVE_BYTES = 4096 };

static struct mdm *device;
static struct mdm_mqtt_reader reader;
static uint16_t packet_id, message_id;
static uint64_t spoken_at, heard_at;
static bool pinged;
static char published[64]; /* the point of tests that the present publication comes to, as publish.config.get */

void broker_begin(struct mdm *m) { device = m; }

static void lose(const char *reason) {
  (void)fprintf(stderr, "connection lost: %s\n", reason);
  net_close();
  mdm_on_lost(device);
}

/* Sends a packet and what follows it; a connection that fails is lost. */
static void send_packet(const uint8_t *packet, size_t size, const void *payload, size_t payload_size) {
  if (!net_is_open()) return; /* lost a moment ago: the device knows */
  spoken_at = now_ms();
  if (size == 0) {
    lose("a packet exceeds the buffer");
  } else if (!net_send(packet, size) || !net_send(payload, payload_size)) {
    lose(net_error());
  }
}

static uint16_t next_id(void) {
  packet_id = packet_id == UINT16_MAX ? 1 : (uint16_t)(packet_id + 1);
  return packet_id;
}

void broker_connect(const struct mdm_login *login) {
  uint8_t packet[PACKET_BYTES];
  memset(&reader, 0, sizeof reader);
  pinged = false;
  heard_at = now_ms();
  (void)fprintf(stderr, "connecting to %s:%u as %s\n", login->host, (unsigned)login->port, login->client_id);
  if (!net_open(login->host, login->port, login->tls, login->ca_certificate)) {
    lose(net_error());
    return;
  }
  send_packet(packet, mdm_mqtt_connect(packet, sizeof packet, login), "", 0);
}

void broker_publish(const struct mdm_action *action) {
  static uint8_t body[UINT16_MAX];
  uint8_t packet[PACKET_BYTES];
  (void)fprintf(stderr, "publishing %s\n", action->topic);
  const char *up = strstr(action->topic, "/up/");
  (void)snprintf(published, sizeof published, "publish.%.50s", up == NULL ? "request" : up + 4);
  for (char *at = published; *at != '\0'; at++)
    if (*at == '/') *at = '.';
  files_fault(published, "before");
  memcpy(body, action->data, action->size);
  if (action->dump_size > 0 && !flash_read_dump(action->dump_offset, body + action->size, action->dump_size)) {
    lose("the core dump cannot be read");
    return;
  }
  size_t size = action->size + action->dump_size;
  send_packet(packet, mdm_mqtt_publish(packet, sizeof packet, next_id(), action->topic, size, action->retain), body, size);
}

static void on_event(const struct mdm_mqtt_event *event) {
  switch (event->kind) {
    case MDM_MQTT_CONNACK:
      if (event->code == 0) {
        mdm_on_connected(device);
      } else if (event->code == 4 || event->code == 5) {
        (void)fprintf(stderr, "refused\n");
        net_close();
        mdm_on_refused(device);
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
      files_fault(published, "after");
      mdm_on_acknowledged(device);
      break;
    case MDM_MQTT_PUBLISH:
      message_id = event->qos > 0 ? event->id : 0;
      if (event->offset == 0) (void)fprintf(stderr, "received %s\n", reader.topic);
      if (!mdm_on_message(device, reader.topic, reader.topic_size, event->data, event->size, event->offset, event->total)) lose("a message came while another one was under way");
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
  uint8_t packet[4];
  uint64_t now = now_ms(), pause = MDM_MQTT_KEEPALIVE_S * 500;
  if (now - heard_at > 2 * pause + pause) {
    lose("the broker does not answer");
  } else if (now - spoken_at > pause || (now - heard_at > 2 * pause && !pinged)) {
    pinged = true;
    send_packet(packet, mdm_mqtt_ping(packet, sizeof packet), "", 0);
  }
}

void broker_receive(uint32_t wait_ms, void (*carry_out_all)(void)) {
  uint8_t data[RECEIVE_BYTES];
  int size = net_receive(data, sizeof data, wait_ms);
  if (size < 0) {
    lose(net_error());
    return;
  }
  if (size == 0) {
    keep_alive();
    return;
  }
  heard_at = now_ms();
  pinged = false;
  for (size_t at = 0; at < (size_t)size && net_is_open();) {
    struct mdm_mqtt_event event;
    at += mdm_mqtt_read(&reader, data + at, (size_t)size - at, &event);
    on_event(&event);
    carry_out_all();
  }
}

void broker_subscribe(const char *topic) {
  uint8_t packet[PACKET_BYTES];
  send_packet(packet, mdm_mqtt_subscribe(packet, sizeof packet, next_id(), topic), "", 0);
}

void broker_acknowledge(void) {
  uint8_t packet[4];
  if (message_id != 0) send_packet(packet, mdm_mqtt_puback(packet, sizeof packet, message_id), "", 0);
}

void broker_leave(void) {
  uint8_t packet[4];
  send_packet(packet, mdm_mqtt_disconnect(packet, sizeof packet), "", 0);
  net_close();
}
