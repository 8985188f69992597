#include "token.h"

#include <stdlib.h>

#include "broker.h"
#include "core.h"

enum { BYTES = 6144, HEAD_BYTES = 768, URL_MAX = 300, HOST_BYTES = 254, PATIENCE_MS = 10000, WAIT_MS = 100 };
enum { BAD_REQUEST = 400, UNAUTHORIZED = 401 };

struct url {
  char host[HOST_BYTES];
  const char *place, *path; /* the place is the host with the port, up to the path */
};

/* Takes an URL apart; what is of the connection goes into `login`. */
static bool take_url(const char *text, struct url *url, struct mdm_login *login) {
  login->tls = strncmp(text, "https://", 8) == 0;
  if (strlen(text) > URL_MAX || (!login->tls && strncmp(text, "http://", 7) != 0)) return false;
  url->place = text + (login->tls ? 8 : 7);
  url->path = strchr(url->place, '/');
  size_t size = strcspn(url->place, ":/");
  if (url->path == NULL || size == 0 || size >= HOST_BYTES) return false;
  memcpy(url->host, url->place, size);
  url->host[size] = '\0';
  unsigned long port = url->place[size] == ':' ? strtoul(url->place + size + 1, NULL, 10) : login->tls ? 443 : 80;
  if (port == 0 || port > UINT16_MAX) return false;
  login->host = url->host;
  login->port = (uint16_t)port;
  return true;
}

/* A value of a form: all but letters and digits as their bytes. */
static void put_value(struct mdm_out *out, const char *name, const char *text) {
  mdm_put_text(out, name);
  for (; *text != '\0'; text++) {
    bool plain = (*text >= 'a' && *text <= 'z') || (*text >= 'A' && *text <= 'Z') || (*text >= '0' && *text <= '9');
    if (!plain) mdm_put_text(out, "%");
    if (plain) mdm_put(out, text, 1);
    if (!plain) mdm_put_hex(out, (const uint8_t *)text, 1);
  }
}

/* HTTP/1.0, so that the answer is in one piece and the connection ends behind it. */
static bool ask(const struct mdm_login *login, const struct url *url, char *memory) {
  struct mdm_out head = {memory, memory + HEAD_BYTES, false}, form = {memory + HEAD_BYTES, memory + BYTES, false};
  put_value(&form, "grant_type=client_credentials&client_id=", login->client_id);
  put_value(&form, "&client_secret=", login->password);
  size_t size = (size_t)(form.at - memory) - HEAD_BYTES;
  mdm_put_text(&head, "POST ");
  mdm_put_text(&head, url->path);
  mdm_put_text(&head, " HTTP/1.0\r\nHost: ");
  mdm_put(&head, url->place, (size_t)(url->path - url->place));
  mdm_put_text(&head, "\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: ");
  mdm_put_count(&head, size);
  mdm_put_text(&head, "\r\n\r\n");
  return !head.full && !form.full && mdm_line_send(memory, (size_t)(head.at - memory)) && mdm_line_send(memory + HEAD_BYTES, size);
}

/* Returns the size of the answer, with a NUL behind it. */
static size_t receive(char *memory) {
  size_t size = 0;
  int more = 0;
  for (uint64_t until = mdm_line_now_ms() + PATIENCE_MS; more >= 0 && size < BYTES - 1 && mdm_line_now_ms() < until;) {
    more = mdm_line_receive(memory + size, BYTES - 1 - size, WAIT_MS);
    if (more > 0) size += (size_t)more;
  }
  memory[size] = '\0';
  return size;
}

static const char *read_answer(char *memory, size_t size, const char **token, bool *refused) {
  static const char *const NAMES[] = {"access_token", "error", NULL};
  struct mdm_json found[2];
  const char *body = strstr(memory, "\r\n\r\n"), *status = strchr(memory, ' ');
  if (body == NULL || status == NULL || !mdm_json_object(body + 4, (size_t)(memory + size - body) - 4, NAMES, found))
    return "the answer of the token URL is no JSON";
  long code = strtol(status, NULL, 10);
  *refused = (code == BAD_REQUEST || code == UNAUTHORIZED) &&
             (mdm_json_is(&found[1], "invalid_client") || mdm_json_is(&found[1], "unauthorized_client"));
  if (*refused) return "the token URL";
  *token = mdm_json_here(&found[0]);
  return *token == NULL ? "the answer of the token URL has no token" : NULL;
}

const char *mdm_token_fetch(const struct mdm_login *login, char **memory, const char **token, bool *refused) {
  struct mdm_login door = *login;
  struct url url;
  if (login->token_url == NULL || !take_url(login->token_url, &url, &door))
    return "token_url: must be http(s)://host[:port]/path, of at most 300 characters";
  *memory = malloc(BYTES);
  if (*memory == NULL) return "out of memory";
  if (!mdm_line_open(&door)) return mdm_line_error();
  bool asked = ask(login, &url, *memory);
  size_t size = asked ? receive(*memory) : 0;
  mdm_line_close();
  return asked ? read_answer(*memory, size, token, refused) : mdm_line_error();
}
