import ArgumentParser
import Cairn
import Testing

@testable import CairnCLI

struct CommandTests {
    @Test(
        arguments: [
            (.usage, 2), (.notFound, 2), (.ambiguous, 2), (.damage, 3), (.interrupted, 130), (.system, 1),
            (.notAStore, 1),
            (.newerVersion, 1), (.exists, 1), (.protected, 1), (.changed, 1), (.busy, 1),
        ] as [(CairnError.Code, Int32)])
    func `Every error has its exit status`(code: CairnError.Code, status: Int32) {
        #expect(ExitStatus.of(code) == status)
    }

    @Test(arguments: [
        ["frobnicate"], ["save"], ["list", "--frob"], ["save", "x", "--metric", "loss"],
        ["save", "x", "--metric", "=1"], ["save", "x", "--metric", "loss=much"],
        ["save", "x", "--only", "optimizer"],
        ["save", "x", "--step=-1"], ["delete"], ["delete", "5", "--run", "r"], ["export", "latest", "d"],
        ["list", "--jobs", "0"], ["list", "--memory", "12"], ["init", "--chunk-size", "3000"],
        ["init", "--chunk-size", "8MiB"], ["policy", "--keep-last", "0"],
        ["policy", "--keep-within", "soon"],
        ["policy", "--milestones", "1,,2"], ["annotate", "latest"], ["cat", "latest", "f", "--json"],
    ])
    func `Wrong usage is found while parsing, and is one sentence that ends with where to look`(
        arguments: [String]
    )
        throws
    {
        let thrown = #expect(throws: (any Error).self) { try CairnCommand.parseAsRoot(arguments) }
        guard case .error(let error) = Failure(try #require(thrown), arguments: arguments) else {
            Issue.record("not an error")
            return
        }
        #expect(error.code == .usage)
        #expect(error.message.hasSuffix("--help)"))
        #expect(!error.message.contains("\n"))
    }

    @Test(arguments: [
        (["lsit"], "there is no command 'lsit'; did you mean list? (see cairn --help)"),
        (["frobnicate", "x"], "there is no command 'frobnicate' (see cairn --help)"),
        (
            ["--store", "x", "list"],
            "'--store' is no command: the command comes first, then its options (see cairn --help)"
        ),
        (
            ["save", "x", "--step", "-1"],
            "--step: '-1' is not a step: give a whole number from 0 to 9007199254740991 (see cairn save --help)"
        ),
        (
            ["--generate-completion-script", "tcsh"],
            "can't generate completion scripts for 'tcsh'. Please use --generate-completion-script=<shell> "
                + "with one of: zsh bash fish (see cairn --help)"
        ),
        (["gc", "now"], "unexpected argument 'now' (see cairn gc --help)"),
    ])
    func `Wrong usage says what, where and what to do`(arguments: [String], sentence: String) throws {
        let thrown = #expect(throws: (any Error).self) { try CairnCommand.parseAsRoot(arguments) }
        guard case .error(let error) = Failure(try #require(thrown), arguments: arguments) else {
            Issue.record("not an error")
            return
        }
        #expect(error.message == sentence)
    }

    @Test func `What a save is told`() throws {
        let words = [
            "save", "out", "--run", "sft", "--step", "7", "--metric", "loss=nan", "--metric", "acc=0.5",
            "--metric",
            "acc=0.75", "--meta", "a=b=c", "--only", "model", "--pin", "p", "--memory", "1GiB", "--jobs", "3",
        ]
        let command = try #require(try CairnCommand.parseAsRoot(words) as? SaveCommand)
        #expect(command.path == "out")
        #expect(command.step == 7)
        #expect(command.only == .model)
        #expect(command.common.memory == 1 << 30)
        let metrics = Arguments.dictionary(command.metrics.map { ($0.name, $0.value) })
        #expect(metrics["acc"] == 0.75)
        #expect(metrics["loss"]?.isNaN == true)
    }

    @Test func `Errors that no layer has put into words are not wrong usage`() {
        struct Odd: Error {}
        guard case .error(let error) = Failure(Odd(), arguments: ["list"]) else {
            Issue.record("not an error")
            return
        }
        #expect(ExitStatus.of(error.code) == ExitStatus.failed)
    }

    @Test(arguments: ["init", "save", "list", "policy", "gc", "repair"])
    func `Help is an answer, with examples`(name: String) throws {
        let thrown = #expect(throws: (any Error).self) {
            var command = try CairnCommand.parseAsRoot([name, "--help"])
            try command.run()
        }
        guard case .answer(let text) = Failure(try #require(thrown), arguments: [name, "--help"]) else {
            Issue.record("not an answer")
            return
        }
        #expect(text.contains("Example") && text.contains("cairn \(name)"))
    }

    @Test(arguments: ["bash", "zsh", "fish"])
    func `Completion scripts`(shell: String) throws {
        let arguments = ["--generate-completion-script", shell]
        let thrown = #expect(throws: (any Error).self) { try CairnCommand.parseAsRoot(arguments) }
        guard case .answer(let text) = Failure(try #require(thrown), arguments: arguments) else {
            Issue.record("not an answer")
            return
        }
        #expect(text.contains("cairn"))
    }

    @Test func `Errors are JSON where JSON was asked for, and not behind --`() {
        #expect(Program.asksForJSON(["list", "--json"]))
        #expect(!Program.asksForJSON(["list"]))
        #expect(!Program.asksForJSON(["save", "--", "--json"]))
    }
}
