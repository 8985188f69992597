/* What is to be done, in its order, as actions; and what follows when they are done. */
#include "core.h"

enum { VERSION = 1 };

/* Each is written by the work W_CONFIG and those that follow it, in this order. */
static const struct {
  const char *name;
  uint16_t at, size;
} RECORDS[] = {
    {"config", offsetof(struct mdm, config), sizeof(struct mdm_config)},
    {"places", offsetof(struct mdm, profiles), sizeof(struct mdm_profiles)},
    {"journal", offsetof(struct mdm, journal), sizeof(struct mdm_journal)},
    {"image", offsetof(struct mdm, image), sizeof(struct mdm_image)},
};

bool mdm_load_records(struct mdm *m) {
  for (unsigned i = 0; i < sizeof RECORDS / sizeof RECORDS[0]; i++) {
    const uint8_t *at, *end;
    void *to = (char *)m + RECORDS[i].at;
    int there = mdm_load_record(m, RECORDS[i].name, VERSION, &at, &end);
    if (there < 0 || (there > 0 && end - at != RECORDS[i].size)) return false;
    if (there > 0) memcpy(to, at, RECORDS[i].size);
    if (there == 0) memset(to, 0, RECORDS[i].size);
  }
  return true;
}

static bool store_record(struct mdm *m, struct mdm_action *action, unsigned work) {
  struct mdm_out out = {m->out, m->out + MDM_OUT_BYTES, false};
  unsigned i = work - W_CONFIG;
  mdm_put_u64(&out, VERSION, 1);
  mdm_put(&out, (char *)m + RECORDS[i].at, RECORDS[i].size);
  *action = (struct mdm_action){.kind = MDM_STORE, .name = RECORDS[i].name, .data = m->out, .size = (size_t)(out.at - m->out)};
  return true;
}

static bool store(struct mdm *m, struct mdm_action *action, const char *name, void (*put)(struct mdm *, struct mdm_out *)) {
  struct mdm_out out = {m->out, m->out + MDM_OUT_BYTES, false};
  put(m, &out);
  *action = (struct mdm_action){.kind = MDM_STORE, .name = name, .data = m->out, .size = (size_t)(out.at - m->out)};
  return true;
}

/* A document or a package, where it lies in the message that brought it. */
static bool store_received(struct mdm *m, struct mdm_action *action, const char *name) {
  *action = (struct mdm_action){.kind = MDM_STORE, .name = name, .data = m->buffer + m->document_at, .size = m->document_size};
  return true;
}

static bool simply(struct mdm_action *action, enum mdm_kind kind) {
  action->kind = kind;
  return true;
}

static bool flash(struct mdm *m, struct mdm_action *action, enum mdm_kind kind, uint32_t offset) {
  action->kind = kind;
  action->offset = offset;
  action->size = m->download_size;
  if (kind == MDM_WRITE) {
    action->data = m->part_data;
    action->size = m->part_size;
  }
  return true;
}

/* Fills in the action of a work; false: it needs none. */
static bool carry_out(struct mdm *m, unsigned work, struct mdm_action *action) {
  switch ((enum mdm_work)work) {
    case W_RESULT:
      mdm_store_result(m, action);
      return true;
    case W_DOCUMENT:
      return store_received(m, action, mdm_document_record(m, true));
    case W_PLACE:
      return mdm_store_place(m, action);
    case W_PACKAGE:
      return store_received(m, action, "package");
    case W_IDENTITY:
      return store(m, action, "identity", mdm_put_identity);
    case W_CONFIG:
    case W_PLACES:
    case W_JOURNAL:
    case W_IMAGE:
      return store_record(m, action, work);
    case W_PROGRESS:
      return store(m, action, "progress", mdm_put_progress);
    case W_APPLY:
      action->kind = MDM_APPLY;
      action->data = mdm_document(m, &action->size);
      return action->data != NULL;
    case W_ADOPT:
      mdm_adopt_package(m);
      return false;
    case W_RUN:
      return mdm_run(m, action);
    case W_ERASE:
      return flash(m, action, MDM_ERASE, m->done);
    case W_WRITE:
      return flash(m, action, MDM_WRITE, m->done + m->part);
    case W_VERIFY:
      return flash(m, action, MDM_VERIFY, 0);
    case W_BOOT:
      return simply(action, MDM_BOOT);
    case W_KEEP_IMAGE:
      return simply(action, MDM_KEEP_IMAGE);
    case W_ERASE_DUMP:
      return simply(action, MDM_ERASE_DUMP);
    case W_PUBACK:
      return simply(action, MDM_PUBACK);
    case W_LEAVE:
      mdm_leave(m);
      mdm_begin_login(m);
      return false;
    case W_DISCONNECT:
      return simply(action, MDM_DISCONNECT);
    case W_ROLL_BACK:
      return simply(action, MDM_ROLL_BACK);
    case W_RESTART:
      return simply(action, MDM_RESTART);
    case W_SLEEP:
      return simply(action, MDM_SLEEP);
    case W_CONNECT:
      return mdm_connect(m, action);
    case W_SUBSCRIBE:
      return mdm_subscribe(m, action);
    case W_COUNT:
      break;
  }
  return false;
}

/* Works that wait for an answer: all records, the configuration, and what concerns the flash. */
static const uint32_t ANSWERED = ((1U << (W_APPLY + 1)) - 1) | 1U << W_ERASE | 1U << W_WRITE | 1U << W_VERIFY | 1U << W_BOOT |
                                 1U << W_KEEP_IMAGE | 1U << W_ERASE_DUMP;

bool mdm_next(struct mdm *m, struct mdm_action *action) {
  while (m->busy == 0 && m->work != 0) {
    unsigned work = 0;
    while (!(m->work >> work & 1)) work++;
    m->work &= ~(1U << work);
    memset(action, 0, sizeof *action);
    if (!carry_out(m, work, action)) continue;
    if (ANSWERED >> work & 1) m->busy = (uint8_t)(work + 1);
    return true;
  }
  if (m->busy > 0) return false;
  for (unsigned message = 0; message < P_COUNT; message++) {
    if (!mdm_is_due(m, message) || !mdm_may_say(m, message)) continue;
    if (mdm_publish(m, message, action)) return true;
  }
  return false;
}

void mdm_on_done(struct mdm *m, bool ok) {
  unsigned work = m->busy - 1U;
  if (m->busy == 0 || work == W_APPLY || work == W_VERIFY) return;
  m->busy = 0;
  switch (work) {
    case W_ERASE:
      mdm_prepared_flash(m, ok);
      return;
    case W_WRITE:
      mdm_wrote_piece(m, ok);
      return;
    case W_BOOT:
      mdm_selected_image(m, ok);
      return;
    case W_ERASE_DUMP:
      return; /* offered again after the next start */
    default:
      break;
  }
  if (work == W_PLACE) {
    mdm_stored_place(m, ok);
  } else if (!ok) {
    mdm_fail(m);
  } else if (work == W_RESULT) {
    mdm_stored_result(m);
  } else if (work == W_DOCUMENT) {
    mdm_stored_document(m);
  } else if (work == W_PACKAGE) {
    mdm_restart(m);
  } else if (work == W_KEEP_IMAGE) {
    mdm_kept_image(m);
  }
}
