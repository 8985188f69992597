#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "posix.h"

static char root[PATH_MAX];

void files_fault(const char *name, const char *moment) {
  char point[80], left[112];
  const char *cut = getenv("MDM_CUT_AT");
  if (cut == NULL) return;
  (void)snprintf(point, sizeof point, "%.60s:%.10s", name, moment);
  (void)printf("step %s\n", point);
  (void)fflush(stdout);
  bool any = cut[0] == '*';
  size_t size = any ? 1 : strlen(point);
  if ((!any && strncmp(cut, point, size) != 0) || cut[size] != '#') return;
  long nth = atol(cut + size + 1);
  if (nth == 1) (void)raise(SIGKILL);
  (void)snprintf(left, sizeof left, "%s#%ld", any ? "*" : point, nth - 1);
  (void)setenv("MDM_CUT_AT", left, 1); /* counted on after a restart */
}

void files_path(char path[4096], const char *name) { (void)snprintf(path, 4096, "%.3900s/%.100s", root, name); }

static bool sync_folder(void) {
  int folder = open(root, O_RDONLY | O_DIRECTORY);
  bool good = folder >= 0 && fsync(folder) == 0;
  if (folder >= 0) (void)close(folder);
  return good;
}

bool files_begin(const char *folder) {
  (void)snprintf(root, sizeof root, "%s", folder);
  return mkdir(root, 0700) == 0 || errno == EEXIST;
}

static bool put(int file, const void *data, size_t size) {
  const char *at = data;
  while (size > 0) {
    ssize_t written = write(file, at, size);
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) return false;
    at += written;
    size -= (size_t)written;
  }
  return true;
}

bool files_write(const char *name, const void *data, size_t size) {
  char path[4096], fresh[4104];
  files_path(path, name);
  (void)snprintf(fresh, sizeof fresh, "%s.new", path);
  files_fault(name, "before");
  int file = open(fresh, O_WRONLY | O_CREAT | O_TRUNC, 0600);
  if (file < 0) return false;
  bool good = put(file, data, size) && fsync(file) == 0;
  good = close(file) == 0 && good;
  files_fault(name, "written");
  good = good && rename(fresh, path) == 0 && sync_folder();
  files_fault(name, "after");
  return good;
}

int32_t files_load(const char *path, void *data, size_t size) {
  int file = open(path, O_RDONLY);
  if (file < 0) return errno == ENOENT ? 0 : -1;
  size_t length = 0;
  ssize_t taken = 1;
  while (taken > 0 && length < size) {
    taken = read(file, (char *)data + length, size - length);
    if (taken > 0) length += (size_t)taken;
  }
  char more;
  bool fits = taken == 0 || (taken > 0 && read(file, &more, 1) == 0);
  (void)close(file);
  return fits ? (int32_t)length : -1;
}

int32_t files_read(const char *name, void *data, size_t size) {
  char path[4096];
  files_path(path, name);
  return files_load(path, data, size);
}
