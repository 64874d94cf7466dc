import ArgumentParser
import Cairn

/// The command `cairn`.
struct CairnCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "cairn",
        abstract: "A content-addressed checkpoint store for model training.",
        discussion: """
            A store keeps the checkpoints of many training runs and writes only the bytes that are new. An \
            iteration is one saved checkpoint; REF names it as [RUN@]SELECTOR, where SELECTOR is

              latest                    the greatest step
              best, best:METRIC[:min|max]
              500                       a step
              NAME                      a pin
              '#a1b2c3'                 at least 6 digits of its id

            For example:

              export CAIRN_STORE=/data/store
              cairn init
              cairn save out/checkpoint-500
              cairn list
              cairn restore latest restored

            Exit status: 0 done, 1 failed, 2 wrong usage, 3 damage found, 130 interrupted.

            Completion: cairn --generate-completion-script bash (or zsh, or fish) prints a script; for \
            bash, put it into ~/.local/share/bash-completion/completions/cairn.
            """,
        version: "cairn \(Store.version)",
        groupedSubcommands: [
            CommandGroup(
                name: "Checkpoints",
                subcommands: [
                    InitCommand.self, SaveCommand.self, ListCommand.self, ShowCommand.self, DiffCommand.self,
                    RestoreCommand.self, CatCommand.self, ExportCommand.self,
                ]),
            CommandGroup(
                name: "Beside a training",
                subcommands: [WatchCommand.self, ResumeCommand.self, LayoutsCommand.self]),
            CommandGroup(
                name: "Keeping and deleting",
                subcommands: [
                    PinCommand.self, UnpinCommand.self, PinsCommand.self, AnnotateCommand.self,
                    RewindCommand.self,
                    DeleteCommand.self, PolicyCommand.self, CollectCommand.self,
                ]),
            CommandGroup(
                name: "The store itself",
                subcommands: [VerifyCommand.self, RepairCommand.self, StatsCommand.self]),
        ])
}
