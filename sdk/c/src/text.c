/* Writing into a bounded buffer, and the small codings of the protocol. */
#include "core.h"

static const char DIGITS[] = "0123456789abcdef";
static const char LETTERS[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

void mdm_put(struct mdm_out *out, const void *data, size_t size) {
  if (out->full || size > (size_t)(out->end - out->at)) {
    out->full = true;
    return;
  }
  if (size > 0) memcpy(out->at, data, size);
  out->at += size;
}

static void put_char(struct mdm_out *out, char character) { mdm_put(out, &character, 1); }

void mdm_put_text(struct mdm_out *out, const char *text) { mdm_put(out, text, strlen(text)); }

void mdm_put_count(struct mdm_out *out, uint64_t value) {
  char digits[20];
  size_t at = sizeof digits;
  do {
    digits[--at] = (char)('0' + value % 10);
    value /= 10;
  } while (value > 0);
  mdm_put(out, digits + at, sizeof digits - at);
}

void mdm_put_hex(struct mdm_out *out, const uint8_t *bytes, size_t size) {
  for (size_t i = 0; i < size; i++) {
    put_char(out, DIGITS[bytes[i] >> 4]);
    put_char(out, DIGITS[bytes[i] & 15]);
  }
}

void mdm_put_base64url(struct mdm_out *out, const uint8_t *bytes, size_t size) {
  uint32_t bits = 0;
  unsigned count = 0;
  for (size_t i = 0; i < size; i++) {
    bits = bits << 8 | bytes[i];
    for (count += 8; count >= 6; count -= 6) put_char(out, LETTERS[bits >> (count - 6) & 63]);
  }
  if (count > 0) put_char(out, LETTERS[bits << (6 - count) & 63]);
}

void mdm_put_quoted(struct mdm_out *out, const char *text, size_t size) {
  put_char(out, '"');
  for (size_t i = 0; i < size; i++) {
    uint8_t byte = (uint8_t)text[i];
    if (byte == '"' || byte == '\\') put_char(out, '\\');
    put_char(out, byte < 0x20 || byte == 0x7F ? ' ' : (char)byte);
  }
  put_char(out, '"');
}

void mdm_put_key(struct mdm_out *out, const char *name) {
  if (!out->full && out->at[-1] != '{') put_char(out, ',');
  mdm_put_quoted(out, name, strlen(name));
  put_char(out, ':');
}

void mdm_put_field(struct mdm_out *out, const char *name, const char *text) {
  if (text == NULL || *text == '\0') return;
  mdm_put_key(out, name);
  mdm_put_quoted(out, text, strlen(text));
}

void mdm_put_hash(struct mdm_out *out, const char *name, const uint8_t hash[32]) {
  mdm_put_key(out, name);
  put_char(out, '"');
  mdm_put_hex(out, hash, 32);
  put_char(out, '"');
}

void mdm_put_number(struct mdm_out *out, const char *name, uint64_t value) {
  mdm_put_key(out, name);
  mdm_put_count(out, value);
}

void mdm_put_u64(struct mdm_out *out, uint64_t value, unsigned bytes) {
  for (; bytes > 0; bytes--, value >>= 8) put_char(out, (char)(uint8_t)value);
}

bool mdm_take(const uint8_t **at, const uint8_t *end, void *to, size_t size, bool *good) {
  *good = *good && size <= (size_t)(end - *at);
  if (!*good) return false;
  memcpy(to, *at, size);
  *at += size;
  return true;
}

uint64_t mdm_take_u64(const uint8_t **at, const uint8_t *end, unsigned bytes, bool *good) {
  uint8_t taken[8] = {0};
  uint64_t value = 0;
  if (!mdm_take(at, end, taken, bytes, good)) return 0;
  while (bytes-- > 0) value = value << 8 | taken[bytes];
  return value;
}

static int value_of(char character) {
  for (int i = 0; i < 64; i++)
    if (LETTERS[i] == character) return i;
  return -1;
}

int32_t mdm_from_base64url(const char *text, size_t size, uint8_t *to, size_t capacity) {
  uint32_t bits = 0;
  unsigned count = 0;
  size_t length = 0;
  if (size % 4 == 1) return -1;
  for (size_t i = 0; i < size; i++) {
    int value = value_of(text[i]);
    if (value < 0) return -1;
    bits = bits << 6 | (uint32_t)value;
    count += 6;
    if (count < 8) continue;
    count -= 8;
    if (length == capacity) return -1;
    to[length++] = (uint8_t)(bits >> count);
    bits &= (1U << count) - 1;
  }
  return bits == 0 ? (int32_t)length : -1;
}

static int digit_of(char character) {
  if (character >= '0' && character <= '9') return character - '0';
  if (character >= 'a' && character <= 'f') return character - 'a' + 10;
  if (character >= 'A' && character <= 'F') return character - 'A' + 10;
  return -1;
}

bool mdm_from_hex(const char *text, size_t size, uint8_t *to) {
  for (size_t i = 0; i < size; i++) {
    int high = digit_of(text[2 * i]), low = high < 0 ? -1 : digit_of(text[2 * i + 1]);
    if (low < 0) return false;
    to[i] = (uint8_t)(high << 4 | low);
  }
  return true;
}

/* Reads `count` digits at `at` as a number from `least` to `most`, or returns -1. */
static int32_t digits(const char *at, unsigned count, int32_t least, int32_t most) {
  int32_t value = 0;
  for (unsigned i = 0; i < count; i++) {
    if (at[i] < '0' || at[i] > '9') return -1;
    value = value * 10 + (at[i] - '0');
  }
  return value < least || value > most ? -1 : value;
}

bool mdm_from_time(const char *text, size_t size, int64_t *ms) {
  static const struct {
    uint8_t at, count;
    uint16_t least, most;
  } PARTS[] = {{0, 4, 1970, 9999}, {5, 2, 1, 12}, {8, 2, 1, 31}, {11, 2, 0, 23}, {14, 2, 0, 59}, {17, 2, 0, 60}};
  int32_t part[6];
  if (size < 20 || text[4] != '-' || text[7] != '-' || (text[10] | 0x20) != 't' || text[13] != ':' || text[16] != ':')
    return false;
  for (unsigned i = 0; i < 6; i++)
    if ((part[i] = digits(text + PARTS[i].at, PARTS[i].count, PARTS[i].least, PARTS[i].most)) < 0) return false;
  size_t at = 19;
  int32_t thousandths = 0, scale = 100;
  if (text[at] == '.') {
    for (at++; at < size && text[at] >= '0' && text[at] <= '9'; at++, scale /= 10)
      thousandths += (text[at] - '0') * scale;
  }
  int32_t offset = 0;
  if (size - at == 1 && (text[at] | 0x20) == 'z') {
    offset = 0;
  } else if (size - at == 6 && (text[at] == '+' || text[at] == '-') && text[at + 3] == ':') {
    int32_t hours = digits(text + at + 1, 2, 0, 23), minutes = digits(text + at + 4, 2, 0, 59);
    if (hours < 0 || minutes < 0) return false;
    offset = (hours * 60 + minutes) * (text[at] == '-' ? -60 : 60);
  } else {
    return false;
  }
  /* Days since 1970 in the Gregorian calendar, with years that begin in March. */
  int32_t years = part[1] > 2 ? part[0] : part[0] - 1, months = part[1] > 2 ? part[1] - 3 : part[1] + 9;
  int32_t days = years * 365 + years / 4 - years / 100 + years / 400 + (months * 153 + 2) / 5 + part[2] - 719469;
  int32_t seconds = part[3] * 3600 + part[4] * 60 + part[5] - offset;
  *ms = ((int64_t)days * 86400 + seconds) * 1000 + thousandths;
  return true;
}

bool mdm_is_uuid(char text[37]) {
  for (size_t i = 0; i < 36; i++) {
    bool dash = i == 8 || i == 13 || i == 18 || i == 23;
    if (dash ? text[i] != '-' : digit_of(text[i]) < 0) return false;
    if (!dash) text[i] = DIGITS[digit_of(text[i])];
  }
  return text[36] == '\0';
}
