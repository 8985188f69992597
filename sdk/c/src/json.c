/* Reads JSON (RFC 8259) where it lies: no memory, no recursion, at most DEPTH levels. Bytes from 0x80 on are passed on
 * as they are, whether UTF-8 or not; \u0000 is refused, since texts end with a NUL here. */
#include "core.h"

enum { DEPTH = 72 }; /* a document has at most 64, and is within a message */

static const char *skip_space(const char *at, const char *end) {
  while (at < end && (*at == ' ' || *at == '\t' || *at == '\n' || *at == '\r')) at++;
  return at;
}

static int32_t hex4(const char *at) {
  uint8_t bytes[2];
  return mdm_from_hex(at, 2, bytes) ? bytes[0] << 8 | bytes[1] : -1;
}

/* Each of these returns the end of what begins at `at`, or NULL. */
static const char *skip_string(const char *at, const char *end) {
  for (at++; at < end; at++) {
    if (*at == '"') return at + 1;
    if ((uint8_t)*at < 0x20) return NULL;
    if (*at != '\\') continue;
    if (++at == end) return NULL;
    if (*at == 'u') {
      if (end - at < 5 || hex4(at + 1) <= 0) return NULL;
      at += 4;
    } else if (*at == '\0' || strchr("\"\\/bfnrt", *at) == NULL) {
      return NULL;
    }
  }
  return NULL;
}

static const char *skip_digits(const char *at, const char *end) {
  const char *begin = at;
  while (at < end && *at >= '0' && *at <= '9') at++;
  return at > begin ? at : NULL;
}

static const char *skip_number(const char *at, const char *end) {
  if (*at == '-' && ++at == end) return NULL;
  at = *at == '0' ? at + 1 : skip_digits(at, end);
  if (at != NULL && at < end && *at == '.') at = skip_digits(at + 1, end);
  if (at != NULL && at < end && (*at == 'e' || *at == 'E')) {
    at++;
    if (at < end && (*at == '+' || *at == '-')) at++;
    at = skip_digits(at, end);
  }
  return at;
}

static const char *skip_scalar(const char *at, const char *end) {
  static const char *const WORDS[] = {"true", "false", "null"};
  if (*at == '"') return skip_string(at, end);
  for (size_t i = 0; i < 3; i++) {
    size_t size = strlen(WORDS[i]);
    if ((size_t)(end - at) >= size && memcmp(at, WORDS[i], size) == 0) return at + size;
  }
  return skip_number(at, end);
}

/* Skips the name of a member and its colon. */
static const char *skip_name(const char *at, const char *end) {
  if (at == end || *at != '"' || (at = skip_string(at, end)) == NULL) return NULL;
  at = skip_space(at, end);
  return at < end && *at == ':' ? skip_space(at + 1, end) : NULL;
}

static const char *skip_value(const char *at, const char *end) {
  uint8_t is_array[DEPTH / 8] = {0};
  unsigned depth = 0;
  for (;;) {
    if (at == end) return NULL;
    if (*at == '{' || *at == '[') {
      bool array = *at == '[';
      if (depth == DEPTH) return NULL;
      is_array[depth / 8] = (uint8_t)((is_array[depth / 8] & ~(1U << depth % 8)) | (unsigned)array << depth % 8);
      depth++;
      at = skip_space(at + 1, end);
      if (at == end || *at != (array ? ']' : '}')) {
        if (!array && (at = skip_name(at, end)) == NULL) return NULL;
        continue;
      }
    } else if ((at = skip_scalar(at, end)) == NULL) {
      return NULL;
    } else {
      if (depth == 0) return at;
      at = skip_space(at, end);
    }
    /* Behind a value: the ends of its containers, or a comma and the next value. */
    for (;;) {
      bool array = is_array[(depth - 1) / 8] >> (depth - 1) % 8 & 1;
      if (at == end) return NULL;
      if (*at == ',') {
        at = skip_space(at + 1, end);
        if (!array && (at = skip_name(at, end)) == NULL) return NULL;
        break;
      }
      if (*at++ != (array ? ']' : '}')) return NULL;
      if (--depth == 0) return at;
      at = skip_space(at, end);
    }
  }
}

static struct mdm_json value(const char *at, const char *end) {
  struct mdm_json found = {at, (size_t)(end - at), *at};
  if (*at == '"') {
    found.at++;
    found.size -= 2;
  } else if (*at == '-' || (*at >= '0' && *at <= '9')) {
    found.kind = '0';
  }
  return found;
}

bool mdm_json_object(const char *text, size_t size, const char *const *names, struct mdm_json *found) {
  const char *end = text + size, *at = skip_space(text, end), *behind;
  for (size_t i = 0; names[i] != NULL; i++) found[i].kind = 0;
  if (at == end || *at != '{' || (behind = skip_value(at, end)) == NULL || skip_space(behind, end) != end) return false;
  at = skip_space(at + 1, end);
  while (*at != '}') {
    const char *name = at + 1, *after = skip_string(at, end), *begin = skip_name(at, end);
    at = skip_value(begin, end);
    for (size_t i = 0; names[i] != NULL; i++)
      if (strlen(names[i]) == (size_t)(after - name) - 1 && memcmp(names[i], name, strlen(names[i])) == 0)
        found[i] = value(begin, at);
    at = skip_space(at, end);
    if (*at == ',') at = skip_space(at + 1, end);
  }
  return true;
}

bool mdm_json_array(const struct mdm_json *array, bool (*each)(void *context, const struct mdm_json *it), void *context) {
  if (array->kind != '[') return false;
  const char *end = array->at + array->size, *at = skip_space(array->at + 1, end);
  while (*at != ']') {
    const char *behind = skip_value(at, end);
    struct mdm_json it = value(at, behind);
    if (!each(context, &it)) return false;
    at = skip_space(behind, end);
    if (*at == ',') at = skip_space(at + 1, end);
  }
  return true;
}

bool mdm_json_count(const struct mdm_json *it, uint64_t most, uint64_t *value) {
  if (it->kind != '0' || it->size > 19) return false;
  *value = 0;
  for (size_t i = 0; i < it->size; i++) {
    if (it->at[i] < '0' || it->at[i] > '9') return false;
    *value = *value * 10 + (uint64_t)(it->at[i] - '0');
  }
  return *value <= most && *value <= INT64_MAX;
}

static unsigned put_utf8(uint32_t code, char bytes[4]) {
  unsigned size = code < 0x80 ? 1 : code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
  for (unsigned i = size; i-- > 1; code >>= 6) bytes[i] = (char)(0x80 | (code & 0x3F));
  bytes[0] = (char)(size == 1 ? code : (0xF00U >> size & 0xFF) | code);
  return size;
}

int32_t mdm_json_text(const struct mdm_json *it, char *to, size_t capacity) {
  static const char FROM[] = "bfnrt", INTO[] = "\b\f\n\r\t";
  if (it->kind != '"') return -1;
  size_t length = 0;
  for (size_t i = 0; i < it->size; i++) {
    char bytes[4] = {it->at[i], 0, 0, 0};
    unsigned size = 1;
    if (bytes[0] == '\\') {
      const char *known = strchr(FROM, it->at[++i]);
      bytes[0] = known == NULL ? it->at[i] : INTO[known - FROM];
      if (it->at[i] == 'u') {
        uint32_t code = (uint32_t)hex4(it->at + i + 1);
        i += 4;
        if (code >= 0xD800 && code < 0xE000) {
          int32_t low = code < 0xDC00 && i + 6 < it->size && it->at[i + 1] == '\\' && it->at[i + 2] == 'u' ? hex4(it->at + i + 3) : -1;
          if (low < 0xDC00 || low > 0xDFFF) return -1;
          code = 0x10000 + ((code - 0xD800) << 10 | ((uint32_t)low - 0xDC00));
          i += 6;
        }
        size = put_utf8(code, bytes);
      }
    }
    if (size >= capacity - length) return -1;
    memcpy(to + length, bytes, size);
    length += size;
  }
  to[length] = '\0';
  return (int32_t)length;
}

char *mdm_json_here(const struct mdm_json *it) {
  /* The buffer of messages is ours to change; a decoded string is never longer, and the quote's place takes the NUL. */
  char *here = (char *)(uintptr_t)it->at;
  return mdm_json_text(it, here, it->size + 1) < 0 ? NULL : here;
}

bool mdm_json_hash(const struct mdm_json *it, uint8_t hash[32]) {
  return it->kind == '"' && it->size == 64 && mdm_from_hex(it->at, 32, hash);
}

bool mdm_json_is(const struct mdm_json *it, const char *text) {
  return it->kind == '"' && it->size == strlen(text) && memcmp(it->at, text, it->size) == 0;
}
