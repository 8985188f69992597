/* A place to connect to: the package, or a connection profile, which has the same names. */
#include "core.h"

enum { HOST, PORT, TLS, TOKEN_URL, CA, WIFI, MARKED, AUTH = MARKED, RECOVERY, RECOVERY_PORT, CLIENT_ID, SECRET, GENERATION, ID, COUNT };

static bool take_port(const struct mdm_json *it, uint16_t *port) {
  uint64_t value;
  if (it->kind == 0 || it->kind == 'n') return true;
  if (!mdm_json_count(it, UINT16_MAX, &value) || value == 0) return false;
  *port = (uint16_t)value;
  return true;
}

static bool find(const char *text, size_t size, struct mdm_json it[COUNT], struct mdm_place *place) {
  static const char *const NAMES[] = {"mqtt_host", "mqtt_port", "mqtt_tls",          "token_url", "ca_certificate",
                                      "wifi",      "mqtt_auth", "recovery",          "recovery_port", "client_id",
                                      "secret",    "secret_generation", "connection_id", NULL};
  static const char *const PORT_NAME[] = {"port", NULL};
  memset(place, 0, sizeof *place);
  if (!mdm_json_object(text, size, NAMES, it)) return false;
  if (it[HOST].kind != '"' || it[HOST].size == 0 || it[HOST].size > 253) return false;
  if (!take_port(&it[PORT], &place->port) || place->port == 0) return false;
  place->recovery = it[RECOVERY];
  if (it[RECOVERY].kind == '{') (void)mdm_json_object(it[RECOVERY].at, it[RECOVERY].size, PORT_NAME, &it[RECOVERY_PORT]);
  if (!take_port(&it[RECOVERY_PORT], &place->recovery_port)) return false;
  if (it[TLS].kind != 't' && it[TLS].kind != 'f') return false;
  if (it[GENERATION].kind == '0' && !mdm_json_count(&it[GENERATION], INT64_MAX, &place->secret_generation)) return false;
  if (it[SECRET].kind == '"' && !mdm_is_secret(it[SECRET].at, it[SECRET].size)) return false;
  place->tls = it[TLS].kind == 't';
  place->use_token = mdm_json_is(&it[AUTH], "token");
  if (place->use_token) return it[TOKEN_URL].kind == '"';
  return it[AUTH].kind == 0 || mdm_json_is(&it[AUTH], "password");
}

/* The mark is the hash of the members' hashes: they need not lie side by side, or in any order. */
static bool mark(struct mdm *m, const struct mdm_json it[COUNT], struct mdm_place *place) {
  const struct mdm_port *port = m->port;
  struct mdm_out out = {m->out, m->out + MDM_OUT_BYTES, false};
  uint8_t hash[32];
  for (unsigned i = 0; i < MARKED; i++) {
    bool is_there = it[i].kind != 0 && it[i].kind != 'n';
    if (!port->sha256(port->context, is_there ? it[i].at : "", is_there ? it[i].size : 0, hash)) return false;
    mdm_put(&out, hash, sizeof hash);
  }
  mdm_put_u64(&out, place->use_token, 1);
  mdm_put_u64(&out, place->recovery_port, 2);
  if (!port->sha256(port->context, m->out, (size_t)(out.at - m->out), hash)) return false;
  memcpy(place->mark.print, hash, sizeof place->mark.print);
  return it[ID].kind != '"' || mdm_json_text(&it[ID], place->mark.id, sizeof place->mark.id) >= 0;
}

bool mdm_check_place(struct mdm *m, const char *text, size_t size, struct mdm_place *place) {
  struct mdm_json it[COUNT];
  bool good = find(text, size, it, place) && mark(m, it, place);
  place->is_package = good && it[CLIENT_ID].kind == '"' && it[SECRET].kind == '"';
  return good;
}

bool mdm_read_place(char *text, size_t size, struct mdm_place *place) {
  struct mdm_json it[COUNT];
  if (!find(text, size, it, place)) return false;
  /* From here on the text is changed: each string gets a NUL in place of its last quote. */
  place->host = mdm_json_here(&it[HOST]);
  place->token_url = mdm_json_here(&it[TOKEN_URL]);
  place->ca_certificate = mdm_json_here(&it[CA]);
  place->client_id = mdm_json_here(&it[CLIENT_ID]);
  place->secret = mdm_json_here(&it[SECRET]);
  if (it[WIFI].kind == '[') {
    place->wifi = it[WIFI].at;
    text[it[WIFI].at + it[WIFI].size - text] = '\0';
  }
  return place->host != NULL;
}

bool mdm_load_place(struct mdm *m, const char *name, size_t capacity, struct mdm_place *place) {
  int32_t size = m->port->load(m->port->context, name, m->buffer, capacity);
  return size > 0 && mdm_read_place(m->buffer, (size_t)size, place);
}

/* Begins the identity of the package, or takes note of a newer package for it. */
enum mdm_error mdm_use_package(struct mdm *m, bool is_new) {
  struct mdm_place place;
  int32_t size = mdm_load(m, "package");
  if (size == 0) return MDM_NO_IDENTITY;
  if (size < 0 || !mdm_read_place(m->buffer, (size_t)size, &place)) return MDM_BAD_PACKAGE;
  const char *id = place.client_id;
  if (id == NULL || place.secret == NULL || id[0] == '\0' || strlen(id) > MDM_NAME_MAX || strpbrk(id, "/+#\"\\") != NULL)
    return MDM_BAD_PACKAGE;
  if (is_new) {
    memcpy(m->client_id, id, strlen(id) + 1);
    mdm_adopt(&m->slots, place.secret, place.secret_generation);
    mdm_do(m, W_IDENTITY);
  } else if (strcmp(m->client_id, id) != 0) {
    return MDM_BAD_PACKAGE;
  }
  m->package_generation = place.secret_generation;
  bool has_recovery = place.recovery.kind == '{';
  if (m->recovery.port == 0 && has_recovery && !mdm_take_recovery(&place.recovery, &m->recovery)) return MDM_BAD_PACKAGE;
  return place.use_token && !m->facts->has_tokens ? MDM_NO_TOKENS : MDM_OK;
}
