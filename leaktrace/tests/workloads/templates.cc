// Stacks as C++ makes them without frame pointers: templates, lambdas in std::function, virtual calls, exceptions,
// a callback that sorts, frames of variable size, threads. Runs until its input ends; makes and frees blocks all
// the while.

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <map>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>
#include <alloca.h>
#include <unistd.h>

static std::atomic<bool> over{false};
static volatile unsigned sink;

struct Shape {
    virtual ~Shape() = default;
    virtual std::string describe(int depth) const = 0;
};

template <int N> struct Nested final : Shape {
    std::string describe(int depth) const override {
        std::string inner = Nested<N - 1>().describe(depth + 1);
        return inner + std::string(N * 3 + depth, 'x');
    }
};
template <> struct Nested<0> final : Shape {
    std::string describe(int depth) const override { return std::string(40 + depth, 'o'); }
};

static int compare(const void *a, const void *b) {
    // A comparison that allocates, called from inside the C library.
    std::unique_ptr<int[]> copy(new int[2]{*static_cast<const int *>(a), *static_cast<const int *>(b)});
    return copy[0] - copy[1];
}

static void in_a_sort() {
    std::vector<int> numbers;
    for (int i = 0; i < 40; i++) numbers.push_back((i * 7919) % 101);
    qsort(numbers.data(), numbers.size(), sizeof(int), compare);
    std::sort(numbers.begin(), numbers.end(), [](int a, int b) {
        std::string left = std::to_string(a) + std::string(30, '0'), right = std::to_string(b);
        return left < right;
    });
    sink += numbers[3];
}

static void thrower(int depth) {
    std::string local(20 + depth, 't');
    if (depth == 0) throw std::runtime_error(local);
    thrower(depth - 1);
    sink += local.size();
}

static void with_exceptions() {
    try {
        thrower(6);
    } catch (const std::exception &error) {
        sink += std::string(error.what()).size();
    }
}

// A frame whose size is only known when it runs keeps a frame pointer even where others do not.
static void of_variable_size(unsigned size) {
    char *bytes = static_cast<char *>(alloca(size));
    bytes[0] = 1;
    std::vector<char> copy(bytes, bytes + 1);
    copy.resize(size);
    sink += copy[0];
}

static unsigned recurse(const std::function<unsigned(unsigned)> &step, unsigned depth) {
    if (depth == 0) return step(0);
    return recurse([&](unsigned n) { return step(n + 1) + static_cast<unsigned>(std::string(33, 'r').size()); },
                   depth - 1) + 1;
}

static void work() {
    while (!over) {
        std::unique_ptr<Shape> shape(new Nested<9>());
        sink += shape->describe(0).size();
        in_a_sort();
        with_exceptions();
        of_variable_size(100 + sink % 2000);
        sink += recurse([](unsigned n) { return n; }, 12);
        std::map<std::string, std::vector<int>> tree;
        for (int i = 0; i < 10; i++) tree[std::to_string(i * 37) + std::string(20, 'k')].resize(i + 1);
        sink += tree.size();
        usleep(500);
    }
}

int main() {
    std::vector<std::thread> threads;
    for (int i = 0; i < 3; i++) threads.emplace_back(work);
    printf("ready %d\n", getpid());
    fflush(stdout);
    while (getchar() != EOF) {
    }
    over = true;
    for (auto &thread : threads) thread.join();
}
