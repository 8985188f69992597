/* Random histories of a device: messages, whole and damaged, refusals, losses, restarts, writes that fail, and time.
 *
 * Without arguments but a number of seconds it makes its own input; with libFuzzer's (-DLIBFUZZER) it takes that. Each
 * history holds:
 *   - the device always comes to rest;
 *   - a message is acknowledged only when the slots in memory are those on the disk;
 *   - the first slot is never empty, and slots change by messages only;
 *   - after a restart the slots are what they were. */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "core.h"
#include "mdm_mqtt.h"

enum { RECORDS = 64, RECORD_BYTES = 1100, BUFFER_BYTES = 4096, REST = 300 };

static const char PACKAGE[] =
    "{\"client_id\":\"iotdevice-blink-mw9agw5m\",\"secret\":\"11111111111111111111111111111111\",\"secret_generation\":1,"
    "\"mqtt_host\":\"broker\",\"mqtt_port\":8883,\"mqtt_tls\":true,\"ca_certificate\":\"PEM\",\"recovery\":{\"port\":8884,"
    "\"account\":\"recover-07\",\"password\":\"p\",\"server_key\":\"VxR2nRFr92Q2rnS8eT0sMK0ZA8WaxSc4BcfiaYtBDDY\"}}";
enum { SECRET_AT = 50, GENERATION_AT = 104 };
/* The header names a key; the crypto below opens everything, so the text stands there in base64url. */
#define SEALED(text) "eyJhbGciOiJFQ0RILUVTIiwiZW5jIjoiQTI1NkdDTSIsImVwayI6eyJrdHkiOiJPS1AiLCJjcnYiOiJYMjU1MTkiLCJ4IjoiVnhSMm5SRnI5MlEycm5TOGVUMHNNSzBaQThXYXhTYzRCY2ZpYVl0QkREWSJ9fQ..AAECAwQFBgcICQoL." text ".AAAAAAAAAAAAAAAAAAAAAA"
#define ID "\"rotation_id\":\"0f8fad5b-d9cb-469f-a165-70867728950%c\""

/* %c is 1, 2 or 3, so ids, generations and versions meet again; @ is our key, # and ~ are ids of our requests. */
static const char *const MESSAGES[][2] = {
    {"config", "{\"request_id\":\"#\",\"version\":%c,\"document\":{\"a\":[1,{}]},\"secret_generation\":%c,\"time\":\"2026-11-25T15:0%c:00Z\"}"},
    {"config", "{\"version\":%c,\"document\":{},\"trial_seconds\":6%c,\"secret_generation\":%c}"},
    {"rotation/offer", "{" ID ",\"deadline\":\"2026-11-25T15:0%c:00Z\",\"generation\":%c,\"current_generation\":%c}"},
    {"rotation/secret", "{" ID ",\"generation\":%c,\"jwe\":\"" SEALED("QUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFB") "\"}"},
    {"rotation/switch", "{" ID ",\"generation\":%c}"},
    {"rotation/done", "{" ID ",\"generation\":%c}"},
    {"rotation/cancelled", "{" ID ",\"reason\":\"over\"}"},
    {"key", "{\"public_key\":\"@\",\"recovery\":{\"port\":888%c,\"account\":\"r\",\"password\":\"p\",\"server_key\":\"VxR2nRFr92Q2rnS8eT0sMK0ZA8WaxSc4BcfiaYtBDDY\"}}"},
    {"connection", "{\"connection_id\":\"000000000000000%c\",\"trial_seconds\":6%c,\"profile\":{\"mqtt_host\":\"b%c\",\"mqtt_port\":1,\"mqtt_tls\":false,\"token_url\":\"http://k\"}}"},
    {"firmware/offer", "{\"request_id\":\"~\",\"sha256\":\"000000000000000000000000000000000000000000000000000000000000000%c\",\"size_bytes\":40%c,\"chunk_size_bytes\":10%c,\"window\":%c}"},
    {"firmware/cancelled", "{\"sha256\":\"000000000000000000000000000000000000000000000000000000000000000%c\",\"reason\":\"x\"}"},
    {"command", "{\"command_id\":\"0f8fad5b-d9cb-469f-a165-70867728950%c\",\"name\":\"blin%c\",\"arguments\":{},\"expires_at\":\"2026-11-25T15:0%c:00Z\"}"},
    {"command", "{\"command_id\":\"0f8fad5b-d9cb-469f-a165-70867728950%c\",\"name\":\"reboot\",\"arguments\":{},\"expires_at\":\"2030-11-25T15:0%c:00Z\"}"},
    {"coredump/wanted", "{\"sha256\":\"0000000000000000000000000000000000000000000000000000000000000000\",\"chunk_size_bytes\":%c,\"missing\":[0,1%c]}"},
    {"coredump/stored", "{\"sha256\":\"0000000000000000000000000000000000000000000000000000000000000000\"}"},
};
enum { KINDS = sizeof MESSAGES / sizeof MESSAGES[0] };

static const uint8_t *input;
static size_t left;
static struct {
  char name[12];
  uint8_t data[RECORD_BYTES];
  size_t size;
} records[RECORDS];
static struct mdm device;
static char buffer[BUFFER_BYTES];
static uint64_t now;
static const struct mdm_dump DUMP = {.size = 20, .elf_sha256 = "e"};

static uint8_t take(void) {
  if (left == 0) return 0;
  left--;
  return *input++;
}

static void demand(bool holds, const char *what) {
  if (holds) return;
  (void)fprintf(stderr, "fuzz: %s\n", what);
  abort();
}

/* ---- The port ---- */

static int32_t load(void *context, const char *name, void *data, size_t size) {
  (void)context;
  for (size_t i = 0; i < RECORDS && records[i].name[0] != '\0'; i++) {
    if (strcmp(records[i].name, name) != 0) continue;
    if (records[i].size > size) return -1;
    memcpy(data, records[i].data, records[i].size);
    return (int32_t)records[i].size;
  }
  return 0;
}

static bool store(const char *name, const void *data, size_t size) {
  size_t i = 0;
  while (i < RECORDS && records[i].name[0] != '\0' && strcmp(records[i].name, name) != 0) i++;
  if (i == RECORDS || size > RECORD_BYTES || take() % 32 == 1) return false;
  demand(strlen(name) <= 8, "a record's name is too long");
  memcpy(records[i].name, name, strlen(name) + 1);
  memcpy(records[i].data, data, size);
  records[i].size = size;
  return true;
}

static bool random_bytes(void *context, uint8_t *bytes, size_t size) {
  (void)context;
  for (size_t i = 0; i < size; i++) bytes[i] = (uint8_t)(take() & 15);
  return true;
}
static bool sha256(void *context, const void *data, size_t size, uint8_t digest[32]) {
  (void)context, (void)data, (void)size;
  memset(digest, 7, 32);
  return true;
}
static bool hmac(void *context, const void *key, size_t key_size, const void *data, size_t size, uint8_t mac[32]) {
  (void)key, (void)key_size;
  return sha256(context, data, size, mac);
}
static bool x25519(void *context, const uint8_t own[32], const uint8_t *peer, uint8_t shared[32]) {
  (void)context, (void)peer;
  memcpy(shared, own, 32);
  shared[0] |= 1;
  return true;
}
static bool open_all(void *context, const uint8_t key[32], const uint8_t iv[12], const void *more, size_t more_size,
                     uint8_t *data, size_t size) {
  (void)context, (void)key, (void)iv, (void)more, (void)more_size, (void)data, (void)size;
  return true;
}

static const struct mdm_port PORT = {NULL, load, random_bytes, sha256, hmac, x25519, open_all, NULL};
static struct mdm_facts facts;

/* ---- One history ---- */

static bool are_stored(void) {
  static struct mdm other;
  static char other_buffer[BUFFER_BYTES];
  memset(&other, 0, sizeof other);
  other.port = &PORT;
  other.buffer = other_buffer;
  other.capacity = BUFFER_BYTES - MDM_OUT_BYTES;
  return mdm_load_identity(&other) == MDM_OK && memcmp(&other.slots, &device.slots, sizeof other.slots) == 0;
}

/* Sometimes with a newer package, as after `mdm device reissue`. */
static void start(void) {
  now += take();
  if (take() % 8 == 1) {
    uint8_t digit = (uint8_t)('1' + take() % 4);
    records[0].data[GENERATION_AT] = digit;
    memset(records[0].data + SECRET_AT, digit, 32);
  }
  facts = (struct mdm_facts){.firmware_sha256 = "f", .slot_size_bytes = 100000, .slot = take() & 1, .on_trial = take() & 1,
                             .piece_size_bytes = 100};
  demand(mdm_begin(&device, &PORT, &facts, buffer, sizeof buffer, now) == MDM_OK, "a device does not start again");
  mdm_offer_dump(&device, &DUMP);
}

/* Carries out an action; returns whether the board starts again. */
static bool carry_out(const struct mdm_action *action) {
  uint8_t sha[32] = {0};
  switch (action->kind) {
    case MDM_STORE:
      mdm_on_done(&device, store(action->name, action->data, action->size));
      return false;
    case MDM_PUBACK:
      demand(are_stored(), "a message is acknowledged before its change is durable");
      return false;
    case MDM_APPLY:
      mdm_on_configured(&device, take() % 8 == 0 ? "no" : NULL);
      return false;
    case MDM_VERIFY:
      if (take() & 1) memcpy(sha, device.download_sha256, sizeof sha);
      mdm_on_verified(&device, sha);
      return false;
    case MDM_RUN:
      if (take() & 1) mdm_on_command_done(&device, take() & 1 ? "{\"a\":1}" : "[", take() & 1 ? "no" : NULL);
      return false;
    case MDM_PUBLISH:
    case MDM_SUBSCRIBE:
      demand(strlen(action->topic) < MDM_MQTT_TOPIC_MAX, "a topic is too long");
      if (take() % 8 != 0) mdm_on_acknowledged(&device);
      return false;
    case MDM_CONNECT:
    case MDM_DISCONNECT:
      return false;
    case MDM_RESTART:
    case MDM_ROLL_BACK:
      start();
      return true;
    default:
      mdm_on_done(&device, take() % 16 != 1);
      return false;
  }
}

static void rest(void) {
  struct mdm_action action;
  for (int count = 0; mdm_next(&device, &action); count++) {
    demand(count < REST, "the device does not come to rest");
    (void)carry_out(&action);
    demand(device.slots.first.secret[0] != '\0', "the first slot is empty");
  }
}

static void send_message(void) {
  char payload[1200];
  char topic[200];
  size_t size = 0;
  unsigned kind = take() % KINDS;
  for (const char *at = MESSAGES[kind][1]; *at != '\0'; at++) {
    bool digit = at[0] == '%' && at[1] == 'c';
    const char *text = *at == '@' ? device.public_key : *at == '#' ? device.request_id : *at == '~' ? device.check_id : NULL;
    if (text != NULL) {
      memcpy(payload + size, text, strlen(text));
      size += strlen(text);
    } else {
      payload[size++] = digit ? (char)('1' + take() % 3) : *at;
    }
    at += digit;
  }
  while (take() % 4 == 0 && size > 1) {
    size_t at = take() * 5U % size;
    if (take() & 1) payload[at] = (char)take();
    if (take() % 4 == 0) size = at;
  }
  int length = snprintf(topic, sizeof topic, "mdm/v1/%s%s", take() % 16 == 0 ? "x" : "d/iotdevice-blink-mw9agw5m/down/", MESSAGES[kind][0]);
  size_t half = take() % 2 == 0 ? size : size / 2;
  bool taken = mdm_on_message(&device, topic, (size_t)length, payload, half, 0, size);
  rest();
  if (taken && half < size) (void)mdm_on_message(&device, topic, (size_t)length, payload + half, size - half, half, size);
}

/* The piece that is awaited, or, now and then, another one. */
static void send_piece(void) {
  char topic[200], payload[100] = {(char)0xE9};
  char sha256[65];
  struct mdm_out out = {sha256, sha256 + 64, false};
  mdm_put_hex(&out, device.download_sha256, 32);
  sha256[64] = '\0';
  size_t wanted = device.download_size - device.done, size = wanted < sizeof payload ? wanted : sizeof payload, half = take() % 100;
  int length = snprintf(topic, sizeof topic, "mdm/v1/d/iotdevice-blink-mw9agw5m/down/firmware/chunk/%s/%u", sha256,
                        (unsigned)(device.done + (take() % 8 == 1 ? 100U : 0U)));
  if (half > size) half = size;
  bool taken = mdm_on_message(&device, topic, (size_t)length, payload, half, 0, size);
  rest();
  if (taken && half < size) (void)mdm_on_message(&device, topic, (size_t)length, payload + half, size - half, half, size);
}

static void step(void) {
  struct mdm_slots before = device.slots;
  unsigned event = take() % 16;
  switch (event) {
    case 0:
      mdm_on_lost(&device);
      break;
    case 1:
      mdm_on_refused(&device);
      break;
    case 2:
      start();
      break;
    case 3:
    case 4:
      now += take() * (take() & 1 ? 40000U : 40U);
      (void)mdm_tick(&device, now);
      break;
    case 5:
      mdm_log(&device, MDM_INFO, "fuzz", "a line \" \\ \x07");
      break;
    case 6:
    case 7:
    case 8:
      mdm_on_connected(&device);
      break;
    case 9:
      mdm_on_acknowledged(&device);
      mdm_on_command_done(&device, NULL, NULL);
      mdm_healthy(&device);
      break;
    case 10:
    case 11:
    case 12:
      if (device.download_size > device.done) {
        send_piece();
        break;
      }
      /* fall through */
    default:
      send_message();
  }
  bool is_message = event > 9;
  if (!is_message) demand(memcmp(&before, &device.slots, sizeof before) == 0, "a slot changes without a message");
  rest();
  demand(device.busy != 0 || are_stored(), "the slots in memory are not those on the disk");
}

static void read_packets(void) {
  struct mdm_mqtt_reader reader = {0};
  struct mdm_mqtt_event event;
  size_t total = 0;
  while (left > 0) {
    size_t size = 1 + take() % 7U, at = 0;
    if (size > left) size = left;
    while (at < size) {
      size_t taken = mdm_mqtt_read(&reader, input + at, size - at, &event);
      demand(taken > 0 || event.kind == MDM_MQTT_BROKEN || event.kind == MDM_MQTT_PUBLISH, "the reader does not go on");
      if (event.kind == MDM_MQTT_PUBLISH) demand(event.offset + event.size <= event.total, "a part is too long");
      if (event.kind == MDM_MQTT_BROKEN) return;
      total += taken;
      at += taken;
    }
    input += size;
    left -= size;
  }
  (void)total;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  input = data;
  left = size;
  if (take() % 8 == 0) {
    read_packets();
    return 0;
  }
  memset(records, 0, sizeof records);
  memcpy(records[0].name, "package", 8);
  memcpy(records[0].data, PACKAGE, sizeof PACKAGE - 1);
  records[0].size = sizeof PACKAGE - 1;
  now = 1000;
  start();
  do {
    rest();
  } while (left > 0 && !are_stored());
  while (left > 0 && are_stored()) step();
  return 0;
}

#ifndef LIBFUZZER
static uint64_t seed;

static uint8_t random_byte(void) { /* xorshift64* */
  seed ^= seed >> 12;
  seed ^= seed << 25;
  seed ^= seed >> 27;
  return (uint8_t)(seed * 2685821657736338717U >> 56);
}

int main(int count, char **values) {
  static uint8_t data[12000];
  long seconds = count > 1 ? atol(values[1]) : 5, histories = 0;
  uint64_t first = count > 2 ? strtoull(values[2], NULL, 10) : 1;
  for (time_t end = time(NULL) + seconds; time(NULL) < end; histories++) {
    seed = first + (uint64_t)histories + 88172645463325252U;
    size_t size = 50 + random_byte() * 46U;
    for (size_t i = 0; i < size; i++) data[i] = random_byte();
    (void)LLVMFuzzerTestOneInput(data, size);
  }
  (void)printf("%ld histories\n", histories);
  return 0;
}
#endif
