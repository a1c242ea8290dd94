// program.h - the command line as a whole: its subcommands, and which of them was asked for.
#pragma once
#include "command.h"
#include <string>
#include <vector>

namespace dynkin::app {

/// Made once for each command line.
class Program {
  public:
    Program();
    /// The subcommand asked for, with its options set; files that options name as settings are read, nothing
    /// else is done. Throws CLI::CallForVersion, CLI::CallForHelp, CLI::ParseError; Error for settings files.
    const Command& parse(int argc, const char* const* argv);
    std::string help() const { return app_.help(); } ///< of the subcommand that was parsed, if one was
    /// "; see 'dynkin fit --help'"
    std::string usage_hint() const;

  private:
    CLI::App app_;
    std::vector<Command> commands_;
};

} // namespace dynkin::app
