/* An image in pieces, in order, each written as it arrives. Its record says how far the flash may be trusted; after a
 * restart the download continues there. The hash is taken from the flash, when all is there. */
#include "core.h"

enum { VERSION = 1, SECTOR_BYTES = 4096, PIECE_MS = 5000, RESTARTS = 2, STEP_PERCENT = 5 };
enum phase { NOTHING, PREPARING, FETCHING, VERIFYING, BOOTING };

void mdm_put_progress(struct mdm *m, struct mdm_out *out) {
  mdm_put_u64(out, VERSION, 1);
  mdm_put(out, m->download_sha256, 32);
  mdm_put_u64(out, m->download_phase == NOTHING ? 0 : m->download_size, 4);
  mdm_put_u64(out, m->saved, 4);
}

/* Returns how much of this image is in the flash. */
static uint32_t progress_of(struct mdm *m, uint32_t size) {
  const uint8_t *at, *end;
  uint8_t sha256[32];
  if (mdm_load_record(m, "progress", VERSION, &at, &end) <= 0) return 0;
  bool good = true;
  mdm_take(&at, end, sha256, 32, &good);
  uint32_t known = (uint32_t)mdm_take_u64(&at, end, 4, &good), saved = (uint32_t)mdm_take_u64(&at, end, 4, &good);
  return good && known == size && saved <= size && memcmp(sha256, m->download_sha256, 32) == 0 ? saved : 0;
}

static uint32_t percent(const struct mdm *m) { return (uint32_t)((uint64_t)m->done * 100 / m->download_size); }

static void report(struct mdm *m, const char *stage, const char *error) {
  m->reported_percent = percent(m);
  mdm_report_image(m, m->download_sha256, stage, error);
}

static void forget(struct mdm *m) {
  m->download_phase = NOTHING;
  m->timers[T_PIECE] = m->timers[P_CHUNK] = 0;
  m->saved = 0;
  mdm_do(m, W_PROGRESS);
}

static void give_up(struct mdm *m, const char *error) {
  report(m, "failed", error);
  forget(m);
}

static uint32_t piece_at(const struct mdm *m, uint32_t offset) {
  uint32_t left = m->download_size - offset;
  return left < m->piece_size ? left : m->piece_size;
}

/* Prepares the flash from `from` on; the record first: it must never vouch for bytes of another image. */
static void fetch_from(struct mdm *m, uint32_t from) {
  m->done = m->asked = m->saved = from;
  m->download_phase = PREPARING;
  mdm_do(m, W_PROGRESS);
  mdm_do(m, W_ERASE);
  report(m, "downloading", NULL);
}

static void verify(struct mdm *m) {
  m->download_phase = VERIFYING;
  m->timers[T_PIECE] = m->timers[P_CHUNK] = 0;
  report(m, "verifying", NULL);
}

/* It takes seconds, in which nothing else is said: so the server knows what for. */
void mdm_said_verifying(struct mdm *m) {
  if (m->download_phase == VERIFYING) mdm_do(m, W_VERIFY);
}

void mdm_prepared_flash(struct mdm *m, bool ok) {
  if (m->download_phase != PREPARING) return;
  if (!ok) {
    give_up(m, "the flash cannot be prepared");
    return;
  }
  m->download_phase = FETCHING;
  if (m->done == m->download_size) {
    verify(m);
  } else {
    mdm_connected_download(m);
  }
}

void mdm_connected_download(struct mdm *m) {
  if (m->download_phase == VERIFYING) report(m, "verifying", NULL);
  if (m->download_phase != FETCHING) return;
  m->asked = m->done;
  mdm_say(m, P_CHUNK);
  mdm_set_timer(m, T_PIECE, mdm_pause(m, PIECE_MS));
}

/* Begins or resumes an image, unless this one is under way; one that is being started is not replaced. */
void mdm_fetch(struct mdm *m, const uint8_t sha256[32], uint32_t size, uint32_t piece) {
  bool same = memcmp(sha256, m->download_sha256, 32) == 0 && m->piece_size == piece;
  if (m->download_phase > FETCHING || (m->download_phase != NOTHING && same)) return;
  memcpy(m->download_sha256, sha256, 32);
  m->download_size = size;
  m->piece_size = piece;
  m->restart_count = 0;
  uint32_t from = progress_of(m, size);
  /* Where a piece begins and a sector too: what lies behind is erased. */
  while (from < size && (from % piece != 0 || from % SECTOR_BYTES != 0)) from -= from % piece != 0 ? from % piece : piece;
  fetch_from(m, from);
}

bool mdm_say_chunk(struct mdm *m, struct mdm_out *out) {
  if (m->download_phase != FETCHING || m->asked >= m->download_size) return false;
  if (m->asked - m->done >= m->window * m->piece_size) return false;
  mdm_put_hash(out, "sha256", m->download_sha256);
  mdm_put_number(out, "offset", m->asked);
  mdm_put_number(out, "length", piece_at(m, m->asked));
  m->asked += piece_at(m, m->asked);
  return true;
}

void mdm_said_chunk(struct mdm *m) {
  if (m->download_phase == FETCHING) mdm_say(m, P_CHUNK);
}

/* Whether a piece, named by what is behind firmware/chunk/, is the one to write next. */
bool mdm_is_next_piece(const struct mdm *m, const char *name, size_t size, size_t total) {
  uint8_t sha256[32];
  uint32_t offset = 0;
  if (m->download_phase != FETCHING || size < 66 || size > 75 || name[64] != '/') return false;
  if (!mdm_from_hex(name, 32, sha256) || memcmp(sha256, m->download_sha256, 32) != 0) return false;
  for (size_t i = 65; i < size; i++) {
    if (name[i] < '0' || name[i] > '9') return false;
    offset = offset * 10 + (uint32_t)(name[i] - '0');
  }
  return offset == m->done && offset < m->asked && total == piece_at(m, offset);
}

bool mdm_on_piece(struct mdm *m, const uint8_t *data, size_t size, size_t offset) {
  if (m->download_phase != FETCHING) return false;
  m->part = (uint32_t)offset;
  m->part_data = data;
  m->part_size = (uint32_t)size;
  for (size_t i = 0; i < size && m->done + offset + i < sizeof m->image_head; i++)
    m->image_head[m->done + offset + i] = data[i];
  mdm_do(m, W_WRITE);
  return true;
}

/* esp_image_header_t: the magic byte, and the chip's id at offset 12. */
static bool is_for_us(const struct mdm *m) {
  return m->image_head[0] == 0xE9 && m->image_head[12] == m->facts->chip_id && m->image_head[13] == 0;
}

void mdm_wrote_piece(struct mdm *m, bool ok) {
  bool is_last = m->received == m->total, begins = m->done < sizeof m->image_head;
  if (is_last) mdm_do(m, W_PUBACK);
  if (!ok) give_up(m, "the flash cannot be written");
  if (!ok || !is_last) return;
  m->done += (uint32_t)m->total;
  if (m->asked < m->done) m->asked = m->done;
  if (begins && m->done >= sizeof m->image_head && !is_for_us(m)) {
    give_up(m, "is no image for this chip");
    return;
  }
  bool complete = m->done == m->download_size;
  if (complete || (m->done - m->saved >= m->window * m->piece_size && m->done % SECTOR_BYTES == 0)) {
    m->saved = m->done;
    mdm_do(m, W_PROGRESS);
  }
  if (complete) {
    verify(m);
    return;
  }
  if (percent(m) >= m->reported_percent + STEP_PERCENT) report(m, "downloading", NULL);
  mdm_say(m, P_CHUNK);
  mdm_set_timer(m, T_PIECE, mdm_pause(m, PIECE_MS));
}

void mdm_on_verified(struct mdm *m, const uint8_t sha256[32]) {
  if (m->busy != W_VERIFY + 1) return;
  m->busy = 0;
  if (m->download_phase != VERIFYING) return;
  if (memcmp(sha256, m->download_sha256, 32) == 0) {
    m->download_phase = BOOTING;
    mdm_choose_image(m, sha256);
  } else if (m->restart_count++ < RESTARTS) {
    fetch_from(m, 0);
  } else {
    give_up(m, "the bytes do not have the sha256 that was offered");
  }
}

void mdm_selected_image(struct mdm *m, bool ok) {
  mdm_booted_image(m, ok);
  if (ok) {
    report(m, "rebooting", NULL);
    m->restarts = true;
    forget(m);
  } else {
    give_up(m, "cannot be selected for the next start");
  }
}

void mdm_stop_fetching(struct mdm *m, const uint8_t sha256[32]) {
  bool ours = m->download_phase == PREPARING || m->download_phase == FETCHING;
  if (ours && memcmp(sha256, m->download_sha256, 32) == 0) forget(m);
}
