/* Database connections: every 20th request forgets to close its own, over a real socket pair; a pool beside it. */
#include <sys/socket.h>
#include <unistd.h>

#include "load.h"

enum { BUFFER_BYTES = 2048, POOL = 16, FORGETS_ONE_IN = 20 };

struct connection { int sockets[2]; char buffer[BUFFER_BYTES - 8]; };

static struct connection *pool[POOL];

static void dial(struct connection *connection)
{
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, connection->sockets))
        abort();
}

static NOINLINE struct connection *open_connection(void)
{
    struct connection *connection = must(malloc(sizeof *connection)); /* LEAK: connection 20480 bytes/s */
    dial(connection);
    return connection;
}

static void query(struct connection *connection)
{
    if (write(connection->sockets[0], "select", 6) != 6
        || read(connection->sockets[1], connection->buffer, sizeof connection->buffer) != 6)
        abort();
}

static NOINLINE struct connection *borrow(unsigned id)
{
    struct connection **slot = &pool[id % POOL];
    if (!*slot) {
        *slot = must(malloc(sizeof **slot)); /* INNOCENT: pooled connection */
        dial(*slot);
    }
    return *slot;
}

static void serve(unsigned id)
{
    struct connection *connection = open_connection();
    query(connection);
    query(borrow(id));
    close(connection->sockets[0]);
    close(connection->sockets[1]);
    /* The descriptors are closed even then, so that their limit does not end the program. */
    if (id % FORGETS_ONE_IN)
        free(connection);
}

int main(int argc, char **argv) { drive(argc, argv, serve); }
