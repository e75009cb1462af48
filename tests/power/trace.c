/* Preloaded into a process: writes down, in their order, what it does to the files of one folder.

   A record: operation, length of the path, offset, length of the data; then the path, and the data. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#define REAL(type, name, ...) ((type(*)(__VA_ARGS__))dlsym(RTLD_NEXT, name))

static pthread_mutex_t one_at_a_time = PTHREAD_MUTEX_INITIALIZER;

static void note(char operation, const char *path, int64_t offset, const void *data, int64_t length) {
    static int out = -1;
    const char *folder = getenv("POWER_FOLDER");
    if (folder == NULL || strncmp(path, folder, strlen(folder)) != 0) return;
    pthread_mutex_lock(&one_at_a_time);
    if (out < 0) out = open(getenv("POWER_TRACE"), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    int64_t head[4] = {operation, (int64_t)strlen(path), offset, length};
    struct iovec parts[3] = {{head, sizeof head}, {(void *)path, strlen(path)}, {(void *)data, data ? length : 0}};
    if (writev(out, parts, 3) < 0) abort();
    pthread_mutex_unlock(&one_at_a_time);
}

static void note_file(char operation, int file, int64_t offset, const void *data, int64_t length) {
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t size = readlink(link, path, sizeof path - 1);
    if (size < 0) return;
    path[size] = 0;
    note(operation, path, offset, data, length);
}

ssize_t pwrite64(int file, const void *data, size_t length, off64_t offset) {
    ssize_t done = REAL(ssize_t, "pwrite64", int, const void *, size_t, off64_t)(file, data, length, offset);
    if (done > 0) note_file('w', file, offset, data, done);
    return done;
}
ssize_t pwrite(int file, const void *data, size_t length, off_t offset) {
    return pwrite64(file, data, length, offset);
}
int ftruncate64(int file, off64_t length) {
    int failed = REAL(int, "ftruncate64", int, off64_t)(file, length);
    if (!failed) note_file('t', file, length, NULL, 0);
    return failed;
}
int ftruncate(int file, off_t length) { return ftruncate64(file, length); }
int fsync(int file) {
    int failed = REAL(int, "fsync", int)(file);
    if (!failed) note_file('s', file, 0, NULL, 0);
    return failed;
}
int fdatasync(int file) {
    int failed = REAL(int, "fdatasync", int)(file);
    if (!failed) note_file('s', file, 0, NULL, 0);
    return failed;
}
int unlink(const char *path) {
    int failed = REAL(int, "unlink", const char *)(path);
    if (!failed) note('u', path, 0, NULL, 0);
    return failed;
}
int rename(const char *from, const char *to) {
    int failed = REAL(int, "rename", const char *, const char *)(from, to);
    if (!failed) note('r', from, 0, to, strlen(to));
    return failed;
}
