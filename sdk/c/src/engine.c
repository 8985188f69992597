/* The start, the time, and what happens when a record cannot be written. */
#include "core.h"

enum { LONGEST_WAIT_MS = 3600 * 1000 };

/* ---- Small things that the parts use ---- */

uint32_t mdm_pause(const struct mdm *m, uint32_t ms) {
  uint32_t hurry = m->facts->hurry > 1 ? m->facts->hurry : 1;
  return ms / hurry;
}

void mdm_do(struct mdm *m, enum mdm_work work) { m->work |= 1U << work; }

void mdm_set_timer(struct mdm *m, unsigned timer, uint32_t ms) {
  m->timers[timer] = (uint32_t)m->now + ms;
  if (m->timers[timer] == 0) m->timers[timer] = 1; /* 0 is no time */
}

/* How long until a timer is due; times are compared in the ring of 32 bits, of which a day is a small part. */
static int32_t left(const struct mdm *m, unsigned timer) { return (int32_t)(m->timers[timer] - (uint32_t)m->now); }

bool mdm_is_due(const struct mdm *m, unsigned timer) { return m->timers[timer] != 0 && left(m, timer) <= 0; }

void mdm_new_id(struct mdm *m, char *id, size_t bytes) {
  uint8_t random[16];
  struct mdm_out out = {id, id + 2 * bytes, false};
  if (!m->port->random(m->port->context, random, bytes)) mdm_do(m, W_RESTART); /* nothing works without */
  mdm_put_hex(&out, random, bytes);
  id[2 * bytes] = '\0';
}

int32_t mdm_load(struct mdm *m, const char *name) {
  return m->port->load(m->port->context, name, m->buffer, m->capacity);
}

void mdm_learn_time(struct mdm *m, const struct mdm_json *time, bool is_answer) {
  int64_t ms;
  if (time->kind != '"' || !mdm_from_time(time->at, time->size, &ms)) return;
  ms -= (int64_t)m->now;
  if (is_answer || !m->knows_time || ms > m->server_at_zero) m->server_at_zero = ms;
  m->knows_time = true;
}

int64_t mdm_server_time(const struct mdm *m) { return m->knows_time ? m->server_at_zero + (int64_t)m->now : 0; }

bool mdm_is_online(const struct mdm *m) { return m->phase == ONLINE && m->purpose == AS_DEVICE; }

/* ---- Start ---- */

int mdm_load_record(struct mdm *m, const char *name, uint8_t version, const uint8_t **at, const uint8_t **end) {
  int32_t size = mdm_load(m, name);
  *at = (const uint8_t *)m->buffer;
  *end = *at + (size > 0 ? size : 0);
  if (size <= 0) return size < 0 ? -1 : 0;
  return *(*at)++ == version ? 1 : -1;
}

/* Reads all records; what they mean at a start is decided afterwards. */
static enum mdm_error load(struct mdm *m) {
  enum mdm_error error = mdm_load_identity(m);
  if (error == MDM_NO_IDENTITY) {
    if (!mdm_make_key(m) || !mdm_public_key(m)) return MDM_FAILED;
    mdm_do(m, W_IDENTITY);
  } else if (error != MDM_OK) {
    return error;
  }
  bool is_new = m->slots.first.secret[0] == '\0';
  error = mdm_use_package(m, is_new);
  if (is_new && error == MDM_NO_IDENTITY) error = mdm_begin_claim(m);
  if (error != MDM_OK) return error;
  m->running = 0;
  return mdm_load_records(m) && mdm_are_places_good(m) ? MDM_OK : MDM_DAMAGED;
}

/* What the records mean at a start of the board. */
static void begin_parts(struct mdm *m) {
  if (m->slots.first.secret[0] != '\0') mdm_begin_places(m);
  mdm_begin_config(m);
  mdm_begin_image(m);
  mdm_begin_login(m);
}

enum mdm_error mdm_begin(struct mdm *m, const struct mdm_port *port, const struct mdm_facts *facts, void *buffer,
                         size_t size, uint64_t now_ms) {
  memset(m, 0, sizeof *m);
  m->port = port;
  m->facts = facts;
  m->buffer = buffer;
  if (size < MDM_BUFFER_MIN) return MDM_BAD_PACKAGE;
  m->capacity = size - MDM_OUT_BYTES;
  m->out = m->buffer + m->capacity;
  m->now = m->started_at = m->active_at = now_ms;
  m->knows_key = facts->key_told_s > 0;
  m->key_told_at = now_ms - (uint64_t)facts->key_told_s * 1000;
  uint8_t random[4];
  if (!port->random(port->context, random, sizeof random)) return MDM_FAILED;
  memcpy(&m->boot, random, sizeof m->boot);
  enum mdm_error error = load(m);
  if (error != MDM_OK) return error;
  begin_parts(m);
  return MDM_OK;
}

/* A record could not be written: what is stored is read again, and the message comes again after the next login. */
void mdm_fail(struct mdm *m) {
  m->work = 0;
  m->download_phase = 0;
  mdm_log(m, MDM_ERROR, "mdm", "a record cannot be written");
  if (m->phase == IDLE || load(m) != MDM_OK) {
    m->work = 1U << W_RESTART;
    return;
  }
  mdm_do(m, W_DISCONNECT);
  mdm_on_lost(m);
}

/* ---- Time ---- */

static void on_timer(struct mdm *m, unsigned timer) {
  switch (timer) {
    case T_CONNECT:
      mdm_do(m, W_CONNECT);
      break;
    case T_ANSWER:
      mdm_do(m, W_DISCONNECT);
      mdm_on_lost(m);
      break;
    case T_CONFIG_TRIAL:
      mdm_config_trial_ends(m);
      break;
    case T_PLACE_TRIAL:
      mdm_place_trial_ends(m);
      break;
    case T_IMAGE_TRIAL:
      mdm_image_trial_ends(m);
      break;
    case T_PIECE:
      mdm_connected_download(m);
      break;
    case T_START:
      mdm_start_counts(m);
      break;
    default: /* T_OFFLINE, T_SILENT */
      mdm_turn_ends(m);
  }
}

uint32_t mdm_tick(struct mdm *m, uint64_t now_ms) {
  m->now = now_ms;
  for (unsigned timer = P_COUNT; timer < T_COUNT; timer++) {
    if (!mdm_is_due(m, timer)) continue;
    m->timers[timer] = 0;
    on_timer(m, timer);
  }
  int32_t next = m->work != 0 && m->busy == 0 ? 0 : LONGEST_WAIT_MS;
  for (unsigned timer = 0; timer < T_COUNT; timer++) {
    bool waits = m->timers[timer] != 0 && (timer >= P_COUNT || mdm_may_say(m, timer));
    if (waits && left(m, timer) < next) next = left(m, timer);
  }
  return mdm_rest(m, next > 0 ? (uint32_t)next : 0);
}
