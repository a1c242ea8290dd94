// documentation.cpp - `dynkin man` and `dynkin completion`: manual pages and completion of shells, from the
// definitions of the command line itself.
#include "command.h"
#include <algorithm>
#include <fmt/format.h>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace dynkin::app {
namespace {

using Apps = std::vector<const CLI::App*>;
using Options = std::vector<const CLI::Option*>;

Apps subcommands(const CLI::App& program) {
    return program.get_subcommands([](const CLI::App* command) { return !command->get_name().empty(); });
}

const CLI::App* find_command(const CLI::App& program, const std::string& name) {
    for (const CLI::App* command : subcommands(program))
        if (command->get_name() == name) return command;
    return nullptr;
}

std::string replaced(std::string text, std::string_view from, std::string_view to) {
    for (std::size_t at = 0; (at = text.find(from, at)) != std::string::npos; at += to.size())
        text.replace(at, from.size(), to);
    return text;
}

/// Values an option is limited to, from the {a,b} of its type; empty when any will do.
std::vector<std::string> choices(const CLI::Option& option) {
    const std::string type = option.get_type_name();
    const std::size_t open = type.find('{'), close = type.rfind('}');
    std::vector<std::string> values;
    if (open == std::string::npos || close == std::string::npos) return values;
    for (std::size_t at = open + 1; at < close;) {
        const std::size_t comma = std::min(type.find(',', at), close);
        values.push_back(type.substr(at, comma - at));
        at = comma + 1;
    }
    return values;
}

bool takes_file(const CLI::Option& option) {
    const std::string type = type_of(option);
    return type == "FILE" || type == "TOML" || type == "DIR";
}
bool takes_value(const CLI::Option& option) { return option.get_items_expected_max() > 0; }

std::vector<std::string> flags(const CLI::Option& option) {
    std::vector<std::string> names;
    for (const std::string& name : option.get_snames()) names.push_back("-" + name);
    for (const std::string& name : option.get_lnames()) names.push_back("--" + name);
    return names;
}

std::string joined(const std::vector<std::string>& parts, const char* separator) {
    return fmt::format("{}", fmt::join(parts, separator));
}

// Manual pages ----------------------------------------------------------------------------------------------

/// Text as groff reads it: no escapes, no requests at the start of a line, hyphens as in a command line.
std::string roff(std::string text) {
    text = replaced(replaced(text, "\\", "\\e"), "-", "\\-");
    return replaced(replaced("\n" + text, "\n.", "\n\\&."), "\n'", "\n\\&'").substr(1);
}

/// Paragraphs and examples with the line breaks that they have in --help.
std::string verbatim(const char* section, const std::string& text) {
    return text.empty() ? "" : fmt::format(".SH {}\n.nf\n{}\n.fi\n", section, roff(text));
}

std::string option_entry(const CLI::Option& option) {
    std::string names =
        option.get_positional() ? "" : fmt::format("\\fB{}\\fR", roff(joined(flags(option), ", ")));
    if (option.get_positional())
        names = fmt::format("\\fI{}\\fR", roff(option.get_name(true)));
    else if (takes_value(option)) {
        const auto values = choices(option);
        names += fmt::format(" \\fI{}\\fR", roff(values.empty() ? type_of(option) : joined(values, "|")));
    }
    std::string text = option.get_description();
    if (option.get_required()) text += " (required)";
    if (takes_value(option) && !option.get_default_str().empty())
        text += fmt::format(" (default: {})", option.get_default_str());
    return fmt::format(".TP\n{}\n{}\n", names, roff(text));
}

std::string upper(std::string text) {
    std::transform(text.begin(), text.end(), text.begin(),
                   [](char c) { return 'a' <= c && c <= 'z' ? char(c - 32) : c; });
    return text;
}

std::string heading(const std::string& name) {
    return fmt::format(".TH {} 1 \"\" \"dynkin {}\" \"User Commands\"\n", upper(name), DYNKIN_VERSION);
}

std::string manual_of(const CLI::App& command) {
    const std::string name = "dynkin-" + command.get_name();
    std::string page = heading(name);
    page += fmt::format(".SH NAME\n{} \\- {}\n.SH SYNOPSIS\n\\fBdynkin {}\\fR [\\fIoptions\\fR]", roff(name),
                        roff(command.get_description()), roff(command.get_name()));
    const Options all =
        command.get_options([](const CLI::Option* option) { return !option->get_group().empty(); });
    for (const CLI::Option* option : all)
        if (option->get_positional()) page += fmt::format(" \\fI{}\\fR", roff(option->get_name(true)));
    page += "\n";
    for (const std::string& group : command.get_groups()) {
        std::string entries;
        for (const CLI::Option* option : all)
            if (option->get_group() == group) entries += option_entry(*option);
        if (!entries.empty()) page += fmt::format(".SH {}\n{}", roff(upper(group)), entries);
    }
    return page + verbatim("DETAILS", command.get_footer()) + ".SH SEE ALSO\n\\fBdynkin\\fR(1)\n";
}

std::string manual_of_program(const CLI::App& program) {
    std::string page = heading("dynkin");
    page += fmt::format(
        ".SH NAME\ndynkin \\- {}\n.SH SYNOPSIS\n\\fBdynkin\\fR \\fIcommand\\fR [\\fIoptions\\fR]\n",
        roff(program.get_description()));
    page += ".SH COMMANDS\n";
    std::vector<std::string> pages;
    for (const CLI::App* command : subcommands(program)) {
        page +=
            fmt::format(".TP\n\\fB{}\\fR\n{}\n", roff(command->get_name()), roff(command->get_description()));
        pages.push_back(fmt::format("\\fBdynkin\\-{}\\fR(1)", roff(command->get_name())));
    }
    return page + verbatim("DETAILS", program.get_footer()) + ".SH SEE ALSO\n" + joined(pages, ",\n") + "\n";
}

// Completion ------------------------------------------------------------------------------------------------

std::string bash_values(const CLI::App& command) {
    std::string cases;
    for (const CLI::Option* option : command.get_options()) {
        if (option->get_positional() || !takes_value(*option)) continue;
        const auto values = choices(*option);
        std::string reply = "return ;;"; // nothing to offer: a number, a name
        if (!values.empty())
            reply =
                fmt::format("COMPREPLY=($(compgen -W '{}' -- \"$current\")); return ;;", joined(values, " "));
        else if (takes_file(*option))
            reply = "compopt -o default; return ;;";
        for (const std::string& flag : flags(*option))
            cases += fmt::format("        {}:{}) {}\n", command.get_name(), flag, reply);
    }
    return cases;
}

std::string bash(const CLI::App& program) {
    std::vector<std::string> commands;
    std::string values, options;
    for (const CLI::App* command : subcommands(program)) {
        commands.push_back(command->get_name());
        values += bash_values(*command);
        std::vector<std::string> names;
        for (const CLI::Option* option : command->get_options())
            if (!option->get_positional())
                for (const std::string& flag : flags(*option)) names.push_back(flag);
        options += fmt::format("        {}) offered='{}' ;;\n", command->get_name(), joined(names, " "));
    }
    return fmt::format(R"(# bash completion of dynkin, made by `dynkin completion bash`
_dynkin() {{
    local current=${{COMP_WORDS[COMP_CWORD]}} previous=${{COMP_WORDS[COMP_CWORD-1]}} command=${{COMP_WORDS[1]}} offered
    COMPREPLY=()
    if [ "$COMP_CWORD" -eq 1 ]; then
        COMPREPLY=($(compgen -W '{} --help --version' -- "$current"))
        return
    fi
    case $command:$previous in
{}    esac
    case $command in
{}    esac
    case $current in
        -*) COMPREPLY=($(compgen -W "$offered" -- "$current")) ;;
        *) compopt -o default ;;
    esac
}}
complete -F _dynkin dynkin
)",
                       joined(commands, " "), values, options);
}

/// A word between single quotes.
std::string quoted(const std::string& text) { return "'" + replaced(text, "'", "'\\''") + "'"; }

std::string zsh_option(const CLI::Option& option) {
    const auto escaped = [](std::string text) {
        for (const char* special : {"\\", "[", "]", ":"})
            text = replaced(text, special, std::string("\\") + special);
        return text;
    };
    const auto values = choices(option);
    std::string action = !values.empty()      ? "(" + joined(values, " ") + ")"
                         : takes_file(option) ? "_files"
                                              : " ";
    if (option.get_positional()) return quoted(fmt::format(":{}:_files", escaped(option.get_name(true))));
    const auto names = flags(option);
    const std::string value =
        takes_value(option) ? fmt::format(":{}:{}", escaped(type_of(option)), action) : "";
    std::vector<std::string> words;
    for (const std::string& name : names)
        words.push_back(quoted(
            fmt::format("({}){}[{}]{}", joined(names, " "), name, escaped(option.get_description()), value)));
    return joined(words, " ");
}

std::string zsh(const CLI::App& program) {
    std::string commands, cases;
    for (const CLI::App* command : subcommands(program)) {
        commands +=
            fmt::format("        {}\n", quoted(command->get_name() + ":" + command->get_description()));
        cases += fmt::format("        {}) _arguments", command->get_name());
        for (const CLI::Option* option : command->get_options())
            cases += " \\\n            " + zsh_option(*option);
        cases += " ;;\n";
    }
    return fmt::format(R"(#compdef dynkin
# zsh completion of dynkin, made by `dynkin completion zsh`
_dynkin() {{
    local -a commands=(
{}    )
    if (( CURRENT == 2 )); then
        _describe command commands
        return
    fi
    local command=$words[2]
    shift words
    (( CURRENT-- ))
    case $command in
{}    esac
}}
_dynkin "$@"
)",
                       commands, cases);
}

std::string fish(const CLI::App& program) {
    std::string lines = "# fish completion of dynkin, made by `dynkin completion fish`\n";
    for (const CLI::App* command : subcommands(program)) {
        lines += fmt::format("complete -c dynkin -n __fish_use_subcommand -f -a {} -d {}\n",
                             command->get_name(), quoted(command->get_description()));
        for (const CLI::Option* option : command->get_options()) {
            if (option->get_positional()) continue;
            lines +=
                fmt::format("complete -c dynkin -n '__fish_seen_subcommand_from {}'", command->get_name());
            for (const std::string& name : option->get_snames()) lines += " -s " + name;
            for (const std::string& name : option->get_lnames()) lines += " -l " + name;
            const auto values = choices(*option);
            if (!values.empty())
                lines += fmt::format(" -x -a {}", quoted(joined(values, " ")));
            else if (takes_value(*option))
                lines += takes_file(*option) ? " -r -F" : " -x";
            lines += fmt::format(" -d {}\n", quoted(option->get_description()));
        }
    }
    return lines;
}

} // namespace

Command man_command(CLI::App& parent) {
    CLI::App* command = parent.add_subcommand("man", "the manual page of the program or of a command");
    auto name = std::make_shared<std::string>();
    const auto known = [&parent](std::string& text) {
        return find_command(parent, text) ? std::string() : fmt::format("there is no command '{}'", text);
    };
    command->add_option("command", *name, "command; none: the program")->check(CLI::Validator(known, ""));
    command->footer("Writes the page to stdout, for groff and man:\n  dynkin man fit | man -l -");
    return {command, [&parent, name] {
                const CLI::App* about = find_command(parent, *name);
                write_stdout(about ? manual_of(*about) : manual_of_program(parent));
                return 0;
            }};
}

Command completion_command(CLI::App& parent) {
    CLI::App* command = parent.add_subcommand("completion", "completion of the command line for a shell");
    auto shell = std::make_shared<std::string>();
    command->add_option("shell", *shell, "bash, zsh or fish")
        ->required()
        ->check(CLI::IsMember({"bash", "zsh", "fish"}));
    command->footer(
        "Writes a script to stdout. In bash, for this session:\n  source <(dynkin completion bash)");
    return {command, [&parent, shell] {
                write_stdout(*shell == "bash" ? bash(parent) : *shell == "zsh" ? zsh(parent) : fish(parent));
                return 0;
            }};
}

} // namespace dynkin::app
