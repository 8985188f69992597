/* The configuration: two records of documents, used in turns, and one that says which is in force, so that each change
 * is one durable write. A version on trial is followed by a new connection and a report on it, or it is reverted. */
#include "core.h"

enum { HAS = 1, BEFORE = 2, REFUSED = 4, TRIAL = 8, SECOND_RECORD = 16 }; /* bits of config_flags */
enum { APPLIED, REJECTED, REVERTED };

static void report(struct mdm *m, uint64_t version, uint8_t outcome, const char *note) {
  size_t size = note == NULL ? 0 : strlen(note);
  if (size > MDM_NOTE_MAX) size = MDM_NOTE_MAX;
  m->report_version = version;
  m->report_outcome = outcome;
  if (size > 0) memcpy(m->note, note, size);
  m->note[size] = '\0';
  mdm_say(m, P_CONFIG_REPORT);
}

/* Returns to the version before, whose document is in the other record. */
static void step_back(struct mdm *m, bool refuse) {
  uint8_t flags = (m->config.flags ^ SECOND_RECORD) & SECOND_RECORD;
  if (m->config.flags & BEFORE) flags |= HAS;
  if (refuse) {
    flags |= REFUSED;
    m->config.refused = m->config.version;
  }
  m->config.version = m->config.before;
  m->config.flags = flags;
  mdm_do(m, W_CONFIG);
}

static void apply_stored(struct mdm *m) {
  m->document_size = 0;
  m->at_start = true;
  mdm_do(m, W_APPLY);
}

static void revert(struct mdm *m, const char *why) {
  step_back(m, true);
  m->timers[T_CONFIG_TRIAL] = 0;
  apply_stored(m);
  mdm_log(m, MDM_WARNING, "mdm", why);
  report(m, m->config.refused, REVERTED, why);
}

void mdm_begin_config(struct mdm *m) {
  if (m->config.flags & TRIAL) {
    revert(m, "the device restarted during the trial");
  } else if (m->config.flags & HAS) {
    apply_stored(m);
  }
}

void mdm_config_trial_ends(struct mdm *m) {
  if (!(m->config.flags & TRIAL)) return;
  revert(m, "was not connected and reported in time");
  mdm_log_in_anew(m); /* the document is loaded where a message may have been on its way */
}

void mdm_connected_config(struct mdm *m) {
  if (m->config.flags & TRIAL) {
    report(m, m->config.version, APPLIED, NULL);
  } else if (m->config.flags & REFUSED) {
    report(m, m->config.refused, REVERTED, NULL);
  }
  mdm_ask_config(m);
}

void mdm_ask_config(struct mdm *m) {
  m->request_id[0] = '\0';
  mdm_say(m, P_CONFIG_GET);
}

/* The record of the document in force, or of the next one: never that of a version to return to. */
const char *mdm_document_record(const struct mdm *m, bool next) {
  bool other = next && !(m->config.flags & TRIAL);
  return !(m->config.flags & SECOND_RECORD) == !other ? "doc0" : "doc1";
}

/* Points to the document to apply: in the message that brought it, or loaded. */
const char *mdm_document(struct mdm *m, size_t *size) {
  if (m->document_size == 0) {
    int32_t loaded = m->config.flags & HAS ? mdm_load(m, mdm_document_record(m, false)) : 0;
    if (loaded <= 0) {
      *size = 2;
      return loaded == 0 && !(m->config.flags & HAS) ? "{}" : NULL;
    }
    m->document_at = 0;
    m->document_size = (size_t)loaded;
  }
  *size = m->document_size;
  return m->buffer + m->document_at;
}

bool mdm_on_config(struct mdm *m, char *text, size_t size) {
  static const char *const NAMES[] = {"request_id",    "version",           "document", "trial_seconds",
                                      "secret_generation", "time", NULL};
  struct mdm_json it[6];
  uint64_t version, generation, trial_s = 0;
  if (!mdm_json_object(text, size, NAMES, it) || !mdm_json_count(&it[1], INT64_MAX, &version)) return false;
  if (!mdm_json_count(&it[4], INT64_MAX, &generation)) return false;
  if (it[3].kind == '0' && (!mdm_json_count(&it[3], 86400, &trial_s) || trial_s == 0)) return false;
  bool answers = m->request_id[0] != '\0' && mdm_json_is(&it[0], m->request_id);
  if (!answers && mdm_on_place_trial(m)) return true; /* only an answer proves that somebody listens there */
  if (answers) mdm_answered(m);
  mdm_learn_time(m, &it[5], answers);
  mdm_on_confirmed(m, generation);
  bool has = m->config.flags & HAS;
  if (has && version == m->config.version) {
    if (!(m->config.flags & TRIAL)) report(m, version, APPLIED, NULL);
  } else if (m->config.flags & REFUSED && version == m->config.refused) {
    report(m, version, REVERTED, NULL);
  } else if (it[2].kind == '{' && (answers || !has || version > m->config.version)) {
    m->document_at = (size_t)(it[2].at - m->buffer);
    m->document_size = it[2].size;
    m->next_version = version;
    m->next_trial_s = (uint32_t)trial_s;
    mdm_do(m, W_DOCUMENT);
    /* An answer that is still on its way may be older than this push. */
    if (m->request_id[0] != '\0') mdm_ask_config(m);
  }
  return true;
}

void mdm_stored_document(struct mdm *m) {
  uint8_t before = m->config.flags, flags = before & (SECOND_RECORD | BEFORE);
  m->replaces_trial = before & TRIAL;
  if (!m->replaces_trial) {
    flags = (uint8_t)((before & HAS ? BEFORE : 0) | ((before ^ SECOND_RECORD) & SECOND_RECORD));
    m->config.before = m->config.version;
  }
  m->config.flags = (uint8_t)(flags | HAS | (m->next_trial_s > 0 ? TRIAL : 0));
  m->config.version = m->next_version;
  m->at_start = false;
  m->timers[T_CONFIG_TRIAL] = 0;
  if (m->next_trial_s > 0) mdm_set_timer(m, T_CONFIG_TRIAL, m->next_trial_s * 1000);
  mdm_do(m, W_CONFIG);
  mdm_do(m, W_APPLY);
}

static void reject(struct mdm *m, const char *error) {
  uint64_t version = m->config.version;
  step_back(m, false);
  m->timers[T_CONFIG_TRIAL] = 0;
  report(m, version, REJECTED, error);
  if (m->replaces_trial) apply_stored(m);
}

void mdm_on_configured(struct mdm *m, const char *error) {
  if (m->busy != W_APPLY + 1) return;
  m->busy = 0;
  if (m->at_start) {
    if (error == NULL) return;
    m->config.flags &= (uint8_t)~HAS; /* in memory only: it is requested again, and reported then */
    mdm_log(m, MDM_ERROR, "mdm", error);
  } else if (error != NULL) {
    reject(m, error);
  } else if (m->config.flags & TRIAL) {
    mdm_log_in_anew(m);
  } else {
    report(m, m->config.version, APPLIED, NULL);
    mdm_say(m, P_STATUS);
  }
}

bool mdm_say_config_get(struct mdm *m, struct mdm_out *out) {
  if (m->request_id[0] == '\0') mdm_new_id(m, m->request_id, 4);
  mdm_put_field(out, "request_id", m->request_id);
  mdm_put_config_version(m, out, "have_version");
  mdm_put_connection(m, out);
  mdm_place_is_asked(m);
  return true;
}

bool mdm_say_config_report(struct mdm *m, struct mdm_out *out) {
  static const char *const OUTCOMES[] = {"applied", "rejected", "reverted"};
  mdm_put_number(out, "version", m->report_version);
  mdm_put_field(out, "outcome", OUTCOMES[m->report_outcome]);
  mdm_put_field(out, "error", m->note);
  return true;
}

void mdm_said_config_report(struct mdm *m) {
  if (!(m->config.flags & TRIAL) || m->report_outcome != APPLIED || m->report_version != m->config.version) return;
  m->config.flags &= (uint8_t)~(TRIAL | BEFORE);
  m->timers[T_CONFIG_TRIAL] = 0;
  mdm_do(m, W_CONFIG);
}

void mdm_put_config_version(const struct mdm *m, struct mdm_out *out, const char *name) {
  if (m->config.flags & HAS) mdm_put_number(out, name, m->config.version);
}

bool mdm_on_config_trial(const struct mdm *m) { return m->config.flags & TRIAL; }

/* Asked again each hour: the server would send the same document at every request. Whose answer it is, is not read. */
void mdm_config_is_too_large(struct mdm *m) {
  mdm_log(m, MDM_ERROR, "mdm", "the configuration exceeds the buffer of this firmware");
  if (!mdm_on_place_trial(m)) mdm_answered(m);
}
