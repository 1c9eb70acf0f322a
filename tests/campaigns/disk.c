/* A disk between a process and its files: it records what is written and synced, and fails when told.

   LD_PRELOAD of campaigns/disk.py, which has the other side of both layouts. Watched are the files whose path begins
   with $DISK_WATCH, without those that end in "-shm": these are memory, made anew after a crash.
   $DISK_LOG: gets a record for every change, in order. $DISK_CONTROL: a mapped block that says what fails. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum { OPENED = 1, WRITTEN, TRUNCATED, SYNCED, SYNC_FAILED, UNLINKED, FOLDER_SYNCED };
enum { WRITE = 1, SYNC = 2, READ = 4 };
enum { FDS = 65536, FOLDER = -1 };

struct record {
    int64_t kind, file, offset, length, nanoseconds;
};

static struct control {
    int64_t kinds;  /* which of WRITE, SYNC, READ may fail; 0: none */
    int64_t after;  /* how many of them go well before */
    int64_t times;  /* how many fail then; -1: all */
    int64_t error;  /* with which errno */
    int64_t room;   /* bytes the files may grow by; -1: without end */
    int64_t writes, syncs, reads; /* seen so far */
    int64_t failures;             /* given so far */
    int64_t failed_at;            /* when the first was, by the monotonic clock; 0: not yet */
} nothing = {.room = -1}, *control = &nothing;

static const char *watch, *folder;
static int log_fd = -1;
static int files[FDS]; /* by descriptor: the number of the file, FOLDER, or 0 */
static int opened;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("DISK_LOG");
    if (path) log_fd = syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    if ((path = getenv("DISK_CONTROL"))) {
        int fd = syscall(SYS_openat, AT_FDCWD, path, O_RDWR | O_CLOEXEC);
        void *block = mmap(NULL, sizeof *control, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        if (block == MAP_FAILED) abort();
        control = block;
        syscall(SYS_close, fd);
    }
    if ((watch = getenv("DISK_WATCH"))) {
        char *parent = strdup(watch);
        *strrchr(parent, '/') = 0;
        folder = parent;
    }
}

static int watched(const char *path) {
    size_t length = strlen(path);
    return watch && !strncmp(path, watch, strlen(watch)) && !(length > 4 && !strcmp(path + length - 4, "-shm"));
}

static int file_of(int fd) { return fd >= 0 && fd < FDS ? files[fd] : 0; }

static int64_t nanoseconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000000LL + now.tv_nsec;
}

static void note(int kind, int file, int64_t offset, const void *data, size_t length) {
    if (log_fd < 0) return;
    struct record record = {kind, file, offset, length, nanoseconds()};
    struct iovec parts[] = {{&record, sizeof record}, {(void *)data, length}};
    /* One call, so that records of this and of the process itself never mix. */
    if (writev(log_fd, parts, 2) != (ssize_t)(sizeof record + length)) abort();
}

static void count_failure(void) {
    control->failures++;
    if (!control->failed_at) control->failed_at = nanoseconds();
}

/* Whether the operation is to fail; the lock is held. */
static int fails(int kind) {
    (*(kind == WRITE ? &control->writes : kind == SYNC ? &control->syncs : &control->reads))++;
    if (!(control->kinds & kind) || control->after-- > 0 || control->times == 0) return 0;
    if (control->times > 0) control->times--;
    count_failure();
    errno = control->error;
    return 1;
}

static int64_t size_of(int fd) {
    struct stat about;
    return fstat(fd, &about) ? 0 : about.st_size;
}

int open64(const char *path, int flags, ...) {
    va_list rest;
    va_start(rest, flags);
    int mode = flags & O_CREAT ? va_arg(rest, int) : 0;
    va_end(rest);
    int is_watched = watched(path), is_folder = folder && !strcmp(path, folder);
    if (!is_watched && !is_folder) return syscall(SYS_openat, AT_FDCWD, path, flags, mode);
    pthread_mutex_lock(&lock);
    int is_new = is_watched && flags & O_CREAT && syscall(SYS_faccessat, AT_FDCWD, path, F_OK);
    int fd = syscall(SYS_openat, AT_FDCWD, path, flags, mode);
    if (fd >= 0 && fd < FDS) {
        files[fd] = is_watched ? ++opened : FOLDER;
        if (is_watched) note(OPENED, opened, is_new, path, strlen(path));
    }
    pthread_mutex_unlock(&lock);
    return fd;
}

int close(int fd) {
    if (file_of(fd)) files[fd] = 0;
    return syscall(SYS_close, fd);
}

ssize_t pwrite64(int fd, const void *data, size_t length, off_t offset) {
    int file = file_of(fd);
    if (file <= 0) return syscall(SYS_pwrite64, fd, data, length, offset);
    pthread_mutex_lock(&lock);
    int failed = fails(WRITE), error = errno;
    /* A write that fails has done half its work. */
    size_t part = failed ? length / 2 : length;
    int64_t growth = offset + (int64_t)part - size_of(fd);
    if (control->room >= 0 && growth > 0) {
        if (growth > control->room) {
            part = part > (size_t)(growth - control->room) ? part - (growth - control->room) : 0;
            growth = control->room;
            if (!failed && !part) failed = 1, error = ENOSPC, count_failure();
        }
        control->room -= growth;
    }
    ssize_t written = part ? syscall(SYS_pwrite64, fd, data, part, offset) : 0;
    if (written > 0) note(WRITTEN, file, offset, data, written);
    pthread_mutex_unlock(&lock);
    if (!failed) return written;
    errno = error;
    return -1;
}

ssize_t pread64(int fd, void *data, size_t length, off_t offset) {
    int file = file_of(fd);
    if (file > 0) {
        pthread_mutex_lock(&lock);
        int failed = fails(READ);
        pthread_mutex_unlock(&lock);
        if (failed) return -1;
    }
    return syscall(SYS_pread64, fd, data, length, offset);
}

int ftruncate64(int fd, off_t size) {
    int file = file_of(fd);
    if (file <= 0) return syscall(SYS_ftruncate, fd, size);
    pthread_mutex_lock(&lock);
    int failed = fails(WRITE), error = errno;
    int64_t before = size_of(fd);
    int result = failed ? -1 : syscall(SYS_ftruncate, fd, size);
    if (!result) note(TRUNCATED, file, size, NULL, 0);
    if (!result && control->room >= 0) control->room += before > size ? before - size : 0;
    pthread_mutex_unlock(&lock);
    if (failed) errno = error;
    return result;
}

int fsync(int fd) {
    int file = file_of(fd);
    if (!file) return syscall(SYS_fsync, fd);
    pthread_mutex_lock(&lock);
    int failed = fails(SYNC), error = errno;
    int result = failed ? -1 : syscall(SYS_fsync, fd);
    if (file == FOLDER) {
        if (!result) note(FOLDER_SYNCED, 0, 0, NULL, 0);
    } else {
        note(result ? SYNC_FAILED : SYNCED, file, 0, NULL, 0);
    }
    pthread_mutex_unlock(&lock);
    if (failed) errno = error;
    return result;
}

int unlink(const char *path) {
    if (!watched(path)) return syscall(SYS_unlinkat, AT_FDCWD, path, 0);
    pthread_mutex_lock(&lock);
    struct stat about;
    int64_t size = stat(path, &about) ? 0 : about.st_size;
    int result = syscall(SYS_unlinkat, AT_FDCWD, path, 0);
    if (!result) note(UNLINKED, 0, 0, path, strlen(path));
    if (!result && control->room >= 0) control->room += size;
    pthread_mutex_unlock(&lock);
    return result;
}

int fdatasync(int fd) __attribute__((alias("fsync")));
int open(const char *path, int flags, ...) __attribute__((alias("open64")));
int ftruncate(int fd, off_t size) __attribute__((alias("ftruncate64")));
ssize_t pwrite(int fd, const void *data, size_t length, off_t offset) __attribute__((alias("pwrite64")));
ssize_t pread(int fd, void *data, size_t length, off_t offset) __attribute__((alias("pread64")));
