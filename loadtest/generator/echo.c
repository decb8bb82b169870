// The floor for latency: accepts connections one after the other and sends back what it reads, blocking.
// Prints its port; "echo spin" polls instead of blocking.

#define _GNU_SOURCE
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

int main(int count, char **arguments) {
    int flags = count > 1 && !strcmp(arguments[1], "spin") ? MSG_DONTWAIT : 0, on = 1;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (listener < 0 || bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 16)) return 1;
    getsockname(listener, (struct sockaddr *)&address, &length);
    printf("%d\n", ntohs(address.sin_port));
    fflush(stdout);
    for (;;) {
        static char bytes[65536];
        int fd = accept(listener, NULL, NULL);
        if (fd < 0) return 1;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        for (ssize_t got;;) {
            got = recv(fd, bytes, sizeof bytes, flags);
            if (got < 0 && flags) continue;
            if (got <= 0 || send(fd, bytes, (size_t)got, MSG_NOSIGNAL) != got) break;
        }
        close(fd);
    }
}
