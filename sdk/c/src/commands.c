/* Commands: each is begun durably before it is executed, so at most once, and its result is sent until the broker has
 * it. The journal is a ring of the last MDM_COMMANDS; each result is a record of its own. */
#include "core.h"

static void id_to_bytes(const char id[37], uint8_t bytes[16]) {
  for (size_t i = 0, at = 0; i < 16; i++, at += 2) {
    if (id[at] == '-') at++;
    (void)mdm_from_hex(id + at, 1, bytes + i);
  }
}

static void put_id(struct mdm_out *out, const uint8_t bytes[16]) {
  mdm_put_key(out, "command_id");
  mdm_put_text(out, "\"");
  for (size_t i = 0; i < 16; i++) {
    if (i == 4 || i == 6 || i == 8 || i == 10) mdm_put_text(out, "-");
    mdm_put_hex(out, bytes + i, 1);
  }
  mdm_put_text(out, "\"");
}

static void begin(struct mdm *m, const uint8_t id[16], const char *name, const struct mdm_json *arguments) {
  uint32_t bit = 1U << m->journal.next;
  memcpy(m->journal.ids[m->journal.next], id, 16);
  m->journal.begun |= bit;
  m->journal.finished &= ~bit;
  m->journal.told &= ~bit;
  m->running = (uint8_t)(m->journal.next + 1);
  m->journal.next = (uint8_t)((m->journal.next + 1) % MDM_COMMANDS);
  m->command_name = name;
  m->arguments = arguments->at;
  m->arguments_size = arguments->size;
  mdm_do(m, W_JOURNAL);
  mdm_do(m, W_RUN);
}

bool mdm_on_command(struct mdm *m, char *text, size_t size) {
  static const char *const NAMES[] = {"command_id", "name", "arguments", "expires_at", NULL};
  struct mdm_json it[4];
  char id[37];
  uint8_t bytes[16];
  int64_t expires_ms;
  if (!mdm_json_object(text, size, NAMES, it) || mdm_json_text(&it[0], id, sizeof id) != 36 || !mdm_is_uuid(id)) return false;
  if (it[2].kind != '{' || it[3].kind != '"' || !mdm_from_time(it[3].at, it[3].size, &expires_ms)) return false;
  id_to_bytes(id, bytes);
  for (unsigned i = 0; i < MDM_COMMANDS; i++) {
    if (!(m->journal.begun >> i & 1) || memcmp(m->journal.ids[i], bytes, 16) != 0) continue;
    m->journal.told &= ~(1U << i); /* in memory only */
    mdm_say(m, P_RESULT);
    return true;
  }
  char *name = mdm_json_here(&it[1]);
  if (name == NULL) return false;
  if (mdm_is_over(expires_ms, mdm_server_time(m))) {
    memcpy(m->expired_command, bytes, 16);
    mdm_say(m, P_REFUSAL);
  } else if (m->running != 0) {
    m->missed_command = true; /* the server has it, and sends it again when we say that we are online */
  } else {
    begin(m, bytes, name, &it[2]);
  }
  return true;
}

/* Executes a command of the core's own; the others are the application's. */
bool mdm_run(struct mdm *m, struct mdm_action *action) {
  if (strcmp(m->command_name, "reboot") == 0) {
    m->restarts_after = m->running;
    mdm_on_command_done(m, NULL, NULL);
    return false;
  }
  action->kind = MDM_RUN;
  action->name = m->command_name;
  action->data = m->arguments;
  action->size = m->arguments_size;
  return true;
}

void mdm_on_command_done(struct mdm *m, const char *result, const char *error) {
  static const char *const NONE[] = {NULL};
  struct mdm_out out = {m->out, m->out + MDM_OUT_BYTES, false};
  if (m->running == 0) return;
  if (result != NULL && (strlen(result) > MDM_RESULT_MAX || !mdm_json_object(result, strlen(result), NONE, NULL))) {
    result = NULL;
    error = "the result is no JSON object, or too long";
  }
  mdm_put_text(&out, error == NULL ? ",\"ok\":true" : ",\"ok\":false");
  if (result != NULL) {
    mdm_put_key(&out, "result");
    mdm_put_text(&out, result);
  }
  if (error != NULL && strlen(error) > MDM_NOTE_MAX) error = "the error is too long";
  mdm_put_field(&out, "error", error);
  m->result_size = (size_t)(out.at - m->out);
  mdm_do(m, W_RESULT);
}

static const char *record(struct mdm *m, unsigned index) {
  struct mdm_out out = {m->result_name, m->result_name + sizeof m->result_name, false};
  mdm_put_text(&out, "r");
  mdm_put_count(&out, index);
  mdm_put(&out, "", 1);
  return m->result_name;
}

void mdm_store_result(struct mdm *m, struct mdm_action *action) {
  action->kind = MDM_STORE;
  action->name = record(m, m->running - 1U);
  action->data = m->out;
  action->size = m->result_size;
}

void mdm_stored_result(struct mdm *m) {
  m->journal.finished |= 1U << (m->running - 1);
  m->running = 0;
  mdm_do(m, W_JOURNAL);
  mdm_say(m, P_RESULT);
}

bool mdm_say_result(struct mdm *m, struct mdm_out *out) {
  unsigned index = 0;
  while (index < MDM_COMMANDS && (!(m->journal.begun >> index & 1) || m->journal.told >> index & 1 || m->running == index + 1)) index++;
  if (index == MDM_COMMANDS) return false;
  m->telling = (uint8_t)index;
  put_id(out, m->journal.ids[index]);
  int32_t size = 0;
  if (m->journal.finished >> index & 1)
    size = m->port->load(m->port->context, record(m, index), out->at, (size_t)(out->end - out->at));
  if (size > 0) {
    out->at += size;
  } else {
    mdm_put_text(out, ",\"ok\":false,\"error\":\"cut off by a restart\"");
  }
  return true;
}

void mdm_said_result(struct mdm *m) {
  m->journal.told |= 1U << m->telling;
  mdm_do(m, W_JOURNAL);
  mdm_say(m, P_RESULT);
  if (m->missed_command && m->running == 0) mdm_say(m, P_STATUS);
  if (m->running == 0) m->missed_command = false;
  if (m->restarts_after == m->telling + 1) mdm_restart(m);
}

bool mdm_say_refusal(struct mdm *m, struct mdm_out *out) {
  put_id(out, m->expired_command);
  mdm_put_text(out, ",\"ok\":false,\"error\":\"expired\"");
  return true;
}
