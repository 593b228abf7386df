/* A host app: SIGPIPE at its default action, the library linked (with -DSTATIC) or loaded.
 *
 * It starts the server, fetches, lets clients hang up in the middle of an answer, fetches again,
 * stops, and unloads. Nothing may die of it, no thread may stay, and descriptors may not pile up. */
#define _POSIX_C_SOURCE 200809L
#define _DARWIN_C_SOURCE
#include <arpa/inet.h>
#include <dirent.h>
#include <dlfcn.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { WHOLE = 16 << 20, PART = 100000, ROUNDS = 3, HANG_UPS = 20 };

#ifdef STATIC
int64_t peer_host_start(void);
int64_t peer_host_fetch(uint16_t port);
int64_t peer_host_stop(void);
#else
static int64_t (*peer_host_start)(void);
static int64_t (*peer_host_fetch)(uint16_t port);
static int64_t (*peer_host_stop)(void);
#endif

static void expect(int64_t got, int64_t expected, const char *what)
{
    if (got != expected) {
        fprintf(stderr, "host: %s: %lld, not %lld\n", what, (long long)got, (long long)expected);
        exit(1);
    }
}

/* Entries of a directory, or -1 where the system has none such (it is Linux's /proc). */
static int entries(const char *path)
{
    int count = -2; /* . and .. */
    DIR *dir = opendir(path);
    if (!dir)
        return -1;
    while (readdir(dir))
        count++;
    closedir(dir);
    return count;
}

static int threads(void) { return entries("/proc/self/task"); }
static int descriptors(void) { return entries("/proc/self/fd"); }

static void sleep_10_ms(void)
{
    struct timespec time = {0, 10 * 1000 * 1000};
    nanosleep(&time, NULL);
}

/* Threads may take a moment to end after the last thing they did; 5 s is a failure. */
static void threads_settle(int expected)
{
    for (int i = 0; i < 500 && threads() != expected; i++)
        sleep_10_ms();
    expect(threads(), expected, "threads");
}

/* The client behind the free functions may keep one idle connection to each server it met. */
static void descriptors_settle(int before, int servers)
{
    for (int i = 0; i < 500 && descriptors() > before + servers; i++)
        sleep_10_ms();
    if (descriptors() > before + servers)
        expect(descriptors(), before + servers, "descriptors, at most");
}

/* Asks for everything, reads a little, and resets the connection. */
static void hang_up(uint16_t port)
{
    static const char request[] = "GET /track/noise HTTP/1.1\r\nHost: h\r\n"
                                  "Authorization: Bearer host-token\r\n\r\n";
    struct sockaddr_in address;
    struct linger reset = {1, 0};
    char head[512];
    int peer = socket(AF_INET, SOCK_STREAM, 0);
    memset(&address, 0, sizeof address);
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    expect(connect(peer, (struct sockaddr *)&address, sizeof address), 0, "connect");
    expect(write(peer, request, sizeof request - 1), sizeof request - 1, "write");
    if (read(peer, head, sizeof head) < 12 || memcmp(head, "HTTP/1.1 200", 12) != 0)
        expect(0, 1, "an answer of 200");
    setsockopt(peer, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    close(peer);
}

int main(int argc, char **argv)
{
    struct sigaction action;
    int threads_before = threads(), descriptors_before = descriptors();

    expect(sigaction(SIGPIPE, NULL, &action), 0, "sigaction");
    expect(action.sa_handler == SIG_DFL, 1, "SIGPIPE at its default");
#ifdef STATIC
    (void)argc;
    (void)argv;
#else
    void *library;
    expect(argc, 2, "arguments: the path of the library");
    library = dlopen(argv[1], RTLD_NOW);
    if (!library) {
        fprintf(stderr, "host: %s\n", dlerror());
        return 1;
    }
    *(void **)&peer_host_start = dlsym(library, "peer_host_start");
    *(void **)&peer_host_fetch = dlsym(library, "peer_host_fetch");
    *(void **)&peer_host_stop = dlsym(library, "peer_host_stop");
    expect(peer_host_start && peer_host_fetch && peer_host_stop, 1, "the three functions");
#endif
    for (int round = 0; round < ROUNDS; round++) {
        int64_t port = peer_host_start();
        if (port <= 0)
            expect(port, 1, "start");
        expect(peer_host_fetch((uint16_t)port), WHOLE + PART, "fetch");
        for (int i = 0; i < HANG_UPS; i++)
            hang_up((uint16_t)port);
        expect(peer_host_fetch((uint16_t)port), WHOLE + PART, "fetch after the hang-ups");
        expect(peer_host_stop(), 0, "stop");
        threads_settle(threads_before);
        descriptors_settle(descriptors_before, round + 1);
    }
    expect(peer_host_stop(), -1, "stop once more");
#ifndef STATIC
    expect(dlclose(library), 0, "dlclose");
    sleep_10_ms(); /* code that still ran would run into unmapped pages now */
#endif
    threads_settle(threads_before);
    descriptors_settle(descriptors_before, ROUNDS);
    if (threads_before < 0)
        fprintf(stderr, "SKIPPED counting threads and descriptors: no /proc here\n");
    expect(sigaction(SIGPIPE, NULL, &action), 0, "sigaction");
    expect(action.sa_handler == SIG_DFL, 1, "SIGPIPE as it was");
    printf("host: started, fetched and stopped %d times; no thread stayed\n", ROUNDS);
    return 0;
}
