// test_documentation.cpp - manual pages and completion of shells, which come from the command line's own
// definitions.
#include "program.h"
#include <cstdio>
#include <sstream>

namespace dynkin::cli_test {
namespace {

bool contains(const std::string& text, const std::string& part) {
    return text.find(part) != std::string::npos;
}

std::vector<std::string> commands() {
    std::vector<std::string> names;
    std::istringstream lines(run({"--help"}).out);
    std::string line;
    bool listed = false;
    while (std::getline(lines, line)) {
        if (listed && line.empty()) break;
        if (listed) names.push_back(line.substr(2, line.find(' ', 2) - 2));
        listed = listed || line == "Subcommands:";
    }
    return names;
}

TEST(Documentation, ManualPagesHaveEveryOptionOfTheHelp) {
    ASSERT_GE(commands().size(), 10u);
    EXPECT_TRUE(contains(run({"man"}).out, "\\fBdynkin\\-fit\\fR(1)"));
    for (const std::string& command : commands()) {
        const Outcome page = run({"man", command});
        ASSERT_EQ(page.exit_code, 0) << page.err;
        EXPECT_EQ(page.out.rfind(".TH DYNKIN-", 0), 0u) << page.out.substr(0, 40);
        std::istringstream words(run({command, "--help"}).out);
        std::string word;
        while (words >> word) {
            const std::size_t end = word.find_first_not_of("abcdefghijklmnopqrstuvwxyz-");
            if (word.rfind("--", 0) != 0 || word.size() < 4) continue;
            std::string flag = word.substr(0, end);
            for (std::size_t at = 0; (at = flag.find('-', at)) != std::string::npos; at += 2)
                flag.insert(at, "\\");
            EXPECT_TRUE(contains(page.out, flag)) << command << " " << word;
        }
    }
    EXPECT_EQ(run({"man", "paint"}).exit_code, 2);
}

/// What bash offers for a command line whose last word is being typed.
std::string completed(const std::string& script, const std::string& line) {
    const std::string program =
        "source " + script + "; COMP_WORDS=(" + line +
        "); COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); compopt() { echo files; }; _dynkin; echo "
        "\"${COMPREPLY[@]}\"";
    FILE* pipe = popen(("bash -c '" + program + "'").c_str(), "r");
    std::string text(1000, '\0');
    text.resize(std::fread(text.data(), 1, text.size(), pipe));
    EXPECT_EQ(pclose(pipe), 0) << line;
    return text;
}

class Completion : public InFolder {};

TEST_F(Completion, BashOffersCommandsFlagsAndValues) {
    write_bytes(path("bash"), succeed({"completion", "bash"}).out);
    EXPECT_EQ(completed(path("bash"), "dynkin s"), "sample score\n");
    EXPECT_EQ(completed(path("bash"), "dynkin fit --device c"), "cpu cuda\n");
    EXPECT_EQ(completed(path("bash"), "dynkin sample --log"), "--log-density\n");
    EXPECT_EQ(completed(path("bash"), "dynkin draw --target x.to"), "files\n\n");
    EXPECT_EQ(completed(path("bash"), "dynkin fit --degree 1"), "\n");
}

TEST_F(Completion, OtherShellsHaveEveryCommandAndFlag) {
    const std::string zsh = run({"completion", "zsh"}).out, fish = run({"completion", "fish"}).out;
    for (const std::string& command : commands()) {
        EXPECT_TRUE(contains(zsh, "        " + command + ") _arguments")) << command;
        EXPECT_TRUE(contains(fish, "-n __fish_use_subcommand -f -a " + command + " ")) << command;
    }
    EXPECT_TRUE(contains(zsh, "--device[auto, cpu or cuda]:TEXT:(auto cpu cuda)"));
    EXPECT_TRUE(contains(fish, "-l device -x -a 'auto cpu cuda'"));
    EXPECT_EQ(run({"completion", "tcsh"}).exit_code, 2);
}

} // namespace
} // namespace dynkin::cli_test
