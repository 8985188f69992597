/* Messages about firmware: the question which image to have, offers, and reports. */
#include "core.h"

enum { HEADER_BYTES = 208 };

void mdm_ask_firmware(struct mdm *m) {
  m->check_id[0] = '\0';
  if (m->facts->slot_size_bytes > 0 && m->facts->firmware_sha256 != NULL) mdm_say(m, P_CHECK);
}

bool mdm_say_check(struct mdm *m, struct mdm_out *out) {
  const struct mdm_facts *facts = m->facts;
  if (m->check_id[0] == '\0') mdm_new_id(m, m->check_id, 4);
  mdm_put_field(out, "request_id", m->check_id);
  mdm_put_field(out, "sha256", facts->firmware_sha256);
  mdm_put_field(out, "version", facts->firmware_version);
  mdm_put_field(out, "chip", facts->chip);
  mdm_put_field(out, "project", facts->project);
  mdm_put_number(out, "slot_size_bytes", facts->slot_size_bytes);
  return true;
}

bool mdm_on_firmware_offer(struct mdm *m, char *text, size_t size) {
  static const char *const NAMES[] = {"request_id", "time", "sha256", "size_bytes", "chunk_size_bytes", "window", NULL};
  struct mdm_json it[6];
  uint8_t sha256[32];
  uint64_t bytes, piece, window = 1;
  if (!mdm_json_object(text, size, NAMES, it)) return false;
  bool answers = m->check_id[0] != '\0' && mdm_json_is(&it[0], m->check_id);
  if (answers) mdm_ask_in_an_hour(m, P_CHECK, m->check_id);
  mdm_learn_time(m, &it[1], answers);
  if (it[2].kind == 0 || it[2].kind == 'n') return true; /* up to date */
  if (!mdm_json_hash(&it[2], sha256) || !mdm_json_count(&it[3], UINT32_MAX, &bytes) || !mdm_json_count(&it[4], 65536, &piece) || piece == 0) return false;
  if (it[5].kind == '0' && (!mdm_json_count(&it[5], 64, &window) || window == 0)) return false;
  m->window = (uint8_t)window;
  if (m->facts->piece_size_bytes > 0 && m->facts->piece_size_bytes < piece) piece = m->facts->piece_size_bytes;
  bool runs = m->facts->firmware_sha256 != NULL && mdm_json_is(&it[2], m->facts->firmware_sha256);
  if (runs || mdm_on_image_trial(m) || mdm_on_place_trial(m)) return true;
  if (mdm_is_refused_image(m, sha256)) {
    mdm_report_image(m, sha256, "rolled_back", "was rolled back before");
  } else if (bytes < HEADER_BYTES || bytes > m->facts->slot_size_bytes) {
    mdm_report_image(m, sha256, "failed", "its size does not fit the app partition");
  } else {
    mdm_fetch(m, sha256, (uint32_t)bytes, (uint32_t)piece);
  }
  return true;
}

bool mdm_on_firmware_cancelled(struct mdm *m, char *text, size_t size) {
  static const char *const NAMES[] = {"sha256", NULL};
  struct mdm_json it[1];
  uint8_t sha256[32];
  if (!mdm_json_object(text, size, NAMES, it) || !mdm_json_hash(&it[0], sha256)) return false;
  mdm_stop_fetching(m, sha256);
  return true;
}

void mdm_report_image(struct mdm *m, const uint8_t sha256[32], const char *stage, const char *error) {
  memcpy(m->image_report_sha256, sha256, 32);
  m->image_stage = stage;
  m->image_error = error;
  mdm_say(m, P_IMAGE_REPORT);
}

bool mdm_say_image_report(struct mdm *m, struct mdm_out *out) {
  if (m->image_stage == NULL) return false;
  mdm_put_hash(out, "sha256", m->image_report_sha256);
  mdm_put_field(out, "stage", m->image_stage);
  m->image_said = m->image_stage;
  if (m->image_stage[0] == 'd') mdm_put_number(out, "percent", m->reported_percent);
  mdm_put_field(out, "error", m->image_error);
  return true;
}

void mdm_said_image_report(struct mdm *m) {
  if (strcmp(m->image_said, "rebooting") == 0) {
    mdm_restart(m);
  } else if (strcmp(m->image_said, "verifying") == 0) {
    mdm_said_verifying(m);
  } else if (strcmp(m->image_said, "confirmed") == 0 || strcmp(m->image_said, "rolled_back") == 0) {
    mdm_said_outcome(m);
  }
}
