/* What the device says: once, or again and again with growing pauses until something has happened. */
#include "core.h"

enum { RETRY_MS = 5000, SLOWEST_MS = 60000, ANSWER_MS = 10000, HOUR_MS = 3600 * 1000 };

/* What may be lost if nobody listens to this broker waits until our request was answered over it. */
static const uint32_t PROVES = 1U << P_KEY | 1U << P_STATUS | 1U << P_CONFIG_GET | 1U << P_ROTATION;
static const uint32_t REPEATED = 1U << P_KEY | 1U << P_CONFIG_GET | 1U << P_ROTATION | 1U << P_CHECK |
                                 1U << P_DUMP_OFFER | 1U << P_CLAIM;

void mdm_say(struct mdm *m, enum mdm_message message) {
  mdm_set_timer(m, message, 0);
  m->pauses[message] = mdm_pause(m, RETRY_MS);
}

/* A push may be lost: what has been answered is asked again in an hour. */
void mdm_ask_in_an_hour(struct mdm *m, enum mdm_message message, char id[9]) {
  id[0] = '\0';
  m->pauses[message] = mdm_pause(m, RETRY_MS);
  mdm_set_timer(m, message, mdm_pause(m, HOUR_MS));
}

void mdm_answered(struct mdm *m) {
  mdm_ask_in_an_hour(m, P_CONFIG_GET, m->request_id);
  m->was_answered = true;
  mdm_place_works(m);
  mdm_check_image(m);
}

/* What is said after each login, see docs/protocol.md, Connection. */
void mdm_begin_talk(struct mdm *m) {
  m->active_at = m->now;
  for (unsigned message = 0; message < P_COUNT; message++) m->timers[message] = 0;
  if (m->purpose != AS_DEVICE) {
    mdm_say(m, m->purpose == TO_RECOVER ? P_RECOVER : P_CLAIM);
    return;
  }
  if (mdm_key_is_due(m)) mdm_say(m, P_KEY);
  mdm_say(m, P_STATUS);
  mdm_say(m, P_ROTATION);
  mdm_place_is_connected(m);
  mdm_connected_config(m);
  mdm_connected_image(m);
  mdm_ask_firmware(m);
  mdm_connected_download(m);
  mdm_say(m, P_RESULT);
  mdm_say(m, P_LOG);
  mdm_say(m, P_VITALS);
  mdm_connected_dump(m);
}

bool mdm_may_say(const struct mdm *m, unsigned message) {
  if (m->phase != ONLINE || m->sending > 0) return false;
  if (m->purpose != AS_DEVICE) return message >= P_RECOVER;
  if (m->stopping) return message == P_STATUS;
  return !mdm_on_place_trial(m) || PROVES >> message & 1;
}

void mdm_restart(struct mdm *m) {
  mdm_do(m, W_DISCONNECT);
  mdm_do(m, W_RESTART);
}

void mdm_on_facts(struct mdm *m) {
  if (mdm_is_online(m)) mdm_say(m, P_STATUS);
}

void mdm_leave(struct mdm *m) {
  mdm_do(m, W_DISCONNECT);
  if (m->sleeps) mdm_do(m, W_SLEEP);
}

void mdm_stop(struct mdm *m) {
  m->stopping = true;
  if (mdm_is_online(m)) {
    mdm_say(m, P_STATUS);
  } else {
    mdm_do(m, W_LEAVE);
  }
}

void mdm_vitals(struct mdm *m, const char *json) {
  m->vitals = json;
  if (mdm_is_online(m)) mdm_say(m, P_VITALS);
}

static bool say_vitals(struct mdm *m, struct mdm_out *out) {
  if (m->vitals != NULL) mdm_put_text(out, m->vitals);
  return m->vitals != NULL;
}

static void said_vitals(struct mdm *m) { m->vitals = NULL; }

static bool say_status(struct mdm *m, struct mdm_out *out) {
  const struct mdm_facts *facts = m->facts;
  mdm_put_text(out, m->stopping ? "\"online\":false" : "\"online\":true");
  if (m->sleeps) mdm_put_text(out, ",\"asleep\":true");
  if (facts->wake_interval_s > 0) mdm_put_number(out, "wake_interval_s", facts->wake_interval_s);
  mdm_put_field(out, "firmware_version", facts->firmware_version);
  mdm_put_field(out, "firmware_sha256", facts->firmware_sha256);
  mdm_put_field(out, "chip", facts->chip);
  mdm_put_field(out, "project", facts->project);
  if (facts->slot_size_bytes > 0) mdm_put_number(out, "slot_size_bytes", facts->slot_size_bytes);
  mdm_put_config_version(m, out, "config_version");
  mdm_put_number(out, "secret_generation", m->login);
  mdm_put_number(out, "boot", m->boot);
  mdm_put_field(out, "reset_reason", facts->reset_reason);
  mdm_put_field(out, "ip", facts->ip);
  if (facts->rssi_dbm < 0) {
    mdm_put_key(out, "rssi_dbm");
    mdm_put_text(out, "-");
    mdm_put_count(out, (uint64_t)-(int64_t)facts->rssi_dbm);
  }
  return true;
}

static const struct {
  const char *topic; /* below up/; NULL: the part names it */
  bool (*say)(struct mdm *m, struct mdm_out *out);
  void (*said)(struct mdm *m); /* the broker has it */
} MESSAGES[P_COUNT] = {
    [P_KEY] = {"key", mdm_say_key, NULL},
    [P_CONFIG_GET] = {"config/get", mdm_say_config_get, NULL},
    [P_ROTATION] = {NULL, mdm_say_rotation, NULL},
    [P_STATUS] = {"status", say_status, NULL},
    [P_CONFIG_REPORT] = {"config/report", mdm_say_config_report, mdm_said_config_report},
    [P_IMAGE_REPORT] = {"firmware/report", mdm_say_image_report, mdm_said_image_report},
    [P_CHECK] = {"firmware/check", mdm_say_check, NULL},
    [P_CHUNK] = {"firmware/chunk", mdm_say_chunk, mdm_said_chunk},
    [P_RESULT] = {"command/result", mdm_say_result, mdm_said_result},
    [P_REFUSAL] = {"command/result", mdm_say_refusal, NULL},
    [P_LOG] = {"log", mdm_say_log, mdm_said_log},
    [P_VITALS] = {"vitals", say_vitals, said_vitals},
    [P_DUMP_CHUNK] = {"coredump/chunk", mdm_say_dump_chunk, mdm_said_dump_chunk},
    [P_DUMP_OFFER] = {"coredump/offer", mdm_say_dump_offer, NULL},
    [P_RECOVER] = {NULL, mdm_say_recover, NULL},
    [P_CLAIM] = {NULL, mdm_say_claim, NULL},
};

void mdm_put_topic(struct mdm *m, struct mdm_out *out, const char *way, const char *topic) {
  mdm_put_text(out, "mdm/v1/d/");
  mdm_put_text(out, m->client_id);
  mdm_put_text(out, way);
  mdm_put(out, topic, strlen(topic) + 1);
}

/* An object, whose members the part writes; of a piece of a core dump, its header; vitals are an object as they are. */
static bool put_payload(struct mdm *m, unsigned message, struct mdm_out *out) {
  bool is_object = message != P_DUMP_CHUNK && message != P_VITALS;
  if (is_object) mdm_put_text(out, "{");
  if (!MESSAGES[message].say(m, out)) return false;
  if (is_object) mdm_put_text(out, "}");
  return !out->full;
}

bool mdm_publish(struct mdm *m, unsigned message, struct mdm_action *action) {
  struct mdm_out out = {m->out, m->out + MDM_OUT_BYTES, false};
  bool repeats = REPEATED >> message & 1;
  m->timers[message] = 0;
  if (repeats) mdm_set_timer(m, message, m->pauses[message]);
  uint32_t slower = m->pauses[message] * 2, slowest = mdm_pause(m, SLOWEST_MS);
  m->pauses[message] = slower < slowest ? slower : slowest;
  const char *topic = message == P_ROTATION ? mdm_rotation_topic(m) : MESSAGES[message].topic;
  if (m->purpose != AS_DEVICE) {
    mdm_put_side_topic(m, &out, false);
  } else if (topic != NULL) {
    mdm_put_topic(m, &out, "/up/", topic);
  }
  char *payload = out.at;
  if (payload == m->out || !put_payload(m, message, &out)) {
    m->timers[message] = 0;
    return false;
  }
  *action = (struct mdm_action){.kind = MDM_PUBLISH, .topic = m->out, .data = payload,
                                .size = (size_t)(out.at - payload), .retain = message == P_STATUS};
  if (message == P_DUMP_CHUNK) {
    action->dump_offset = m->dump_offset;
    action->dump_size = m->dump_size;
  }
  m->sending = (uint8_t)(message + 1);
  mdm_set_timer(m, T_ANSWER, mdm_pause(m, ANSWER_MS));
  return true;
}

void mdm_on_acknowledged(struct mdm *m) {
  if (m->phase == SUBSCRIBING) {
    m->phase = ONLINE;
    m->timers[T_ANSWER] = 0;
    mdm_begin_talk(m);
  } else if (m->sending > 0) {
    unsigned message = m->sending - 1U;
    m->sending = 0;
    m->timers[T_ANSWER] = 0;
    if (MESSAGES[message].said != NULL) MESSAGES[message].said(m);
    if (m->purpose == TO_RECOVER) mdm_set_timer(m, T_ANSWER, mdm_pause(m, ANSWER_MS));
    if (m->stopping && message == P_STATUS) mdm_leave(m);
  }
}
