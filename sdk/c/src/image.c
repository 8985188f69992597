/* An image on trial, and what became of it. The record says which image was chosen and what is to be reported; the
 * bootloader's own record says which one runs. Never confirmed means rolled back, whoever did it. */
#include "core.h"

enum { VERSION = 1, TRIAL_MS = 120000 };
enum state { NO_IMAGE, CHOSEN, SELECTED, CONFIRMED, ROLLED_BACK };
enum reason { RESTARTED, NOT_ANSWERED };

void mdm_put_image(struct mdm *m, struct mdm_out *out) {
  mdm_put_u64(out, VERSION, 1);
  mdm_put_u64(out, m->image_state, 1);
  mdm_put_u64(out, m->image_slot, 1);
  mdm_put_u64(out, m->image_reason, 1);
  mdm_put(out, m->image_sha256, sizeof m->image_sha256);
  mdm_put(out, m->refused_images, sizeof m->refused_images);
}

bool mdm_load_image(struct mdm *m) {
  const uint8_t *at, *end;
  m->image_state = 0;
  memset(m->refused_images, 0, sizeof m->refused_images);
  int there = mdm_load_record(m, "image", VERSION, &at, &end);
  bool good = true;
  if (there <= 0) return there == 0;
  m->image_state = (uint8_t)mdm_take_u64(&at, end, 1, &good);
  m->image_slot = (uint8_t)mdm_take_u64(&at, end, 1, &good);
  m->image_reason = (uint8_t)mdm_take_u64(&at, end, 1, &good);
  mdm_take(&at, end, m->image_sha256, sizeof m->image_sha256, &good);
  mdm_take(&at, end, m->refused_images, sizeof m->refused_images, &good);
  return good && at == end;
}

static void set_state(struct mdm *m, enum state state) {
  m->image_state = (uint8_t)state;
  mdm_do(m, W_IMAGE);
}

bool mdm_is_refused_image(const struct mdm *m, const uint8_t sha256[32]) {
  for (size_t i = 0; i < MDM_REFUSED_IMAGES; i++)
    if (memcmp(m->refused_images[i], sha256, 32) == 0) return true;
  return false;
}

static void refuse(struct mdm *m) {
  if (mdm_is_refused_image(m, m->image_sha256)) return;
  memmove(m->refused_images[1], m->refused_images[0], sizeof m->refused_images - 32);
  memcpy(m->refused_images[0], m->image_sha256, 32);
}

bool mdm_on_image_trial(const struct mdm *m) { return m->facts->on_trial && !m->kept; }

void mdm_begin_image(struct mdm *m) {
  bool tried = m->image_state == CHOSEN || m->image_state == SELECTED, runs = m->facts->slot == m->image_slot;
  if (m->facts->on_trial) mdm_set_timer(m, T_IMAGE_TRIAL, mdm_pause(m, TRIAL_MS));
  if (tried && runs && !m->facts->on_trial) {
    set_state(m, CONFIRMED); /* the power was cut between the two records */
  } else if (tried && !runs && m->image_state == CHOSEN) {
    set_state(m, NO_IMAGE); /* before it could be started */
  } else if (tried && !runs) {
    refuse(m);
    set_state(m, ROLLED_BACK);
  }
}

void mdm_connected_image(struct mdm *m) {
  static const char *const REASONS[] = {"was started without being confirmed", "was not connected and answered in time"};
  if (m->image_state == CONFIRMED) mdm_report_image(m, m->image_sha256, "confirmed", NULL);
  if (m->image_state == ROLLED_BACK)
    mdm_report_image(m, m->image_sha256, "rolled_back", REASONS[m->image_reason == NOT_ANSWERED]);
}

/* Keeps the image on trial if it can connect, is answered, and has tested itself. */
void mdm_check_image(struct mdm *m) {
  if (!mdm_on_image_trial(m) || !m->was_answered || (m->facts->self_tested && !m->is_healthy)) return;
  mdm_do(m, W_KEEP_IMAGE);
}

void mdm_healthy(struct mdm *m) {
  m->is_healthy = true;
  mdm_check_image(m);
}

void mdm_kept_image(struct mdm *m) {
  m->kept = true;
  m->timers[T_IMAGE_TRIAL] = 0;
  if (m->image_state == CHOSEN || m->image_state == SELECTED) {
    set_state(m, CONFIRMED);
    mdm_connected_image(m);
  }
  mdm_ask_firmware(m); /* offers during the trial had to be ignored */
}

void mdm_image_trial_ends(struct mdm *m) {
  if (!mdm_on_image_trial(m)) return;
  m->image_reason = NOT_ANSWERED;
  mdm_do(m, W_IMAGE);
  mdm_do(m, W_ROLL_BACK);
}

/* A verified image: chosen in our record first, then selected in the bootloader's. */
void mdm_choose_image(struct mdm *m, const uint8_t sha256[32]) {
  memcpy(m->image_sha256, sha256, 32);
  m->image_slot = (uint8_t)(1 - m->facts->slot);
  m->image_reason = RESTARTED;
  set_state(m, CHOSEN);
  mdm_do(m, W_BOOT);
}

void mdm_booted_image(struct mdm *m, bool ok) { set_state(m, ok ? SELECTED : NO_IMAGE); }

void mdm_said_outcome(struct mdm *m) {
  if (m->image_state >= CONFIRMED) set_state(m, NO_IMAGE);
}
