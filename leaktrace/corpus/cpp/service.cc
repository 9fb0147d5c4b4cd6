// Owns what C++ services leak though nothing of them calls malloc: a cycle of shared pointers, a map in a static, a
// large string that a view pins through its owner. Beside them a cycle that is broken by a weak pointer, a cache
// that drops its oldest, and a vector that is cleared.
#include <list>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "../c/load.h"

namespace {

struct Node {
    std::shared_ptr<Node> strong;
    std::weak_ptr<Node> weak;
    char data[200];
};

NOINLINE void cycle()
{
    auto parent = std::make_shared<Node>(); // LEAK: parent in a cycle 4960 bytes/s
    auto child = std::make_shared<Node>(); // LEAK: child in a cycle 4960 bytes/s
    parent->strong = child;
    child->strong = parent;
}

NOINLINE void tree()
{
    auto parent = std::make_shared<Node>(); // INNOCENT: parent in a tree
    auto child = std::make_shared<Node>(); // INNOCENT: child in a tree
    parent->strong = child;
    child->weak = parent;
}

NOINLINE void remember(unsigned id)
{
    static std::unordered_map<std::string, std::vector<char>> sessions;
    sessions[std::to_string(id) + " is a key that is longer than a short one"].resize(512); // LEAK: session 12000 bytes/s
}

struct Title {
    std::shared_ptr<std::string> page;
    std::string_view view;
};

NOINLINE Title title(unsigned id)
{
    auto page = std::make_shared<std::string>(4096, static_cast<char>('a' + id % 26)); // LEAK: pinned page 82000 bytes/s
    return {page, std::string_view(*page).substr(0, 10)};
}

NOINLINE void cache(unsigned id)
{
    static std::list<std::string> recent;
    recent.emplace_back(300, static_cast<char>('a' + id % 26)); // INNOCENT: cache that drops its oldest
    if (recent.size() > 400)
        recent.pop_front();
}

NOINLINE void collect(unsigned id)
{
    static std::vector<std::unique_ptr<char[]>> batch;
    batch.push_back(std::make_unique<char[]>(256)); // INNOCENT: batch
    if (id % 1600 == 1599)
        batch.clear();
}

void serve(unsigned id)
{
    static std::vector<Title> titles;
    if (id % 10 == 0) {
        cycle();
        remember(id);
        titles.push_back(title(id)); // LEAK: list of titles 83000 bytes/s
    }
    tree();
    cache(id);
    collect(id);
}

} // namespace

int main(int argc, char **argv) { drive(argc, argv, serve); }
