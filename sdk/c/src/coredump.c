/* A core dump in flash: offered on each connection, sent in the pieces that are asked for, erased once it is stored. */
#include "core.h"

void mdm_offer_dump(struct mdm *m, const struct mdm_dump *dump) {
  m->dump = dump;
  m->missing_count = 0;
  if (mdm_is_online(m)) mdm_say(m, P_DUMP_OFFER);
}

void mdm_connected_dump(struct mdm *m) {
  m->missing_count = 0;
  if (m->dump != NULL) mdm_say(m, P_DUMP_OFFER);
}

bool mdm_say_dump_offer(struct mdm *m, struct mdm_out *out) {
  const struct mdm_dump *dump = m->dump;
  if (dump == NULL) return false;
  mdm_put_hash(out, "sha256", dump->sha256);
  mdm_put_number(out, "size_bytes", dump->size);
  mdm_put_field(out, "elf_sha256", dump->elf_sha256);
  mdm_put_field(out, "reason", dump->reason);
  mdm_put_field(out, "firmware_version", dump->firmware_version);
  return true;
}

static bool is_ours(const struct mdm *m, const struct mdm_json *it) {
  uint8_t sha256[32];
  return m->dump != NULL && mdm_json_hash(it, sha256) && memcmp(sha256, m->dump->sha256, 32) == 0;
}

static bool take_offset(void *context, const struct mdm_json *it) {
  struct mdm *m = context;
  uint64_t offset;
  if (!mdm_json_count(it, UINT32_MAX, &offset)) return false;
  if (offset < m->dump->size && m->missing_count < MDM_MISSING) m->missing[m->missing_count++] = (uint32_t)offset;
  return true;
}

bool mdm_on_dump_wanted(struct mdm *m, char *text, size_t size) {
  static const char *const NAMES[] = {"sha256", "chunk_size_bytes", "missing", NULL};
  struct mdm_json it[3];
  uint64_t piece;
  if (!mdm_json_object(text, size, NAMES, it) || !mdm_json_count(&it[1], 65500, &piece) || piece == 0) return false;
  if (!is_ours(m, &it[0]) || m->missing_count > 0) return true; /* another answer to a repeated offer: under way */
  m->dump_piece = (uint32_t)piece;
  if (!mdm_json_array(&it[2], take_offset, m)) {
    m->missing_count = 0;
    return false;
  }
  m->timers[P_DUMP_OFFER] = 0;
  mdm_say(m, P_DUMP_CHUNK);
  return true;
}

/* The header: the name of the dump and the offset, big-endian; the piece follows from the flash. */
bool mdm_say_dump_chunk(struct mdm *m, struct mdm_out *out) {
  if (m->dump == NULL || m->missing_count == 0) return false;
  uint32_t offset = m->missing[m->missing_count - 1], left = m->dump->size - offset;
  mdm_put(out, m->dump->sha256, 32);
  for (unsigned shift = 32; shift > 0; shift -= 8) mdm_put_u64(out, offset >> (shift - 8), 1);
  m->dump_offset = offset;
  m->dump_size = left < m->dump_piece ? left : m->dump_piece;
  return true;
}

void mdm_said_dump_chunk(struct mdm *m) {
  if (m->missing_count > 0) m->missing_count--;
  mdm_say(m, m->missing_count > 0 ? P_DUMP_CHUNK : P_DUMP_OFFER);
}

static bool ends(struct mdm *m, char *text, size_t size, bool stored) {
  static const char *const NAMES[] = {"sha256", NULL};
  struct mdm_json it[1];
  if (!mdm_json_object(text, size, NAMES, it)) return false;
  if (!is_ours(m, &it[0])) return true;
  m->dump = NULL;
  m->missing_count = 0;
  m->timers[P_DUMP_OFFER] = m->timers[P_DUMP_CHUNK] = 0;
  if (stored) mdm_do(m, W_ERASE_DUMP);
  return true;
}

bool mdm_on_dump_stored(struct mdm *m, char *text, size_t size) { return ends(m, text, size, true); }
bool mdm_on_dump_refused(struct mdm *m, char *text, size_t size) { return ends(m, text, size, false); }
