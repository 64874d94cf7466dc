import Foundation
import Glibc
import Synchronization
import Testing

extension Weather {
    /// What people get wrong: one sentence, the right exit status, and the store as it was.
    @Suite struct CommandTests {
        private struct Wrong: Sendable, CustomStringConvertible {
            var description: String
            var status: Int32
            var mentioning: String
            var arguments: @Sendable (Scene) throws -> [String]

            init(
                _ description: String, _ status: Int32, _ mentioning: String,
                _ arguments: @escaping @Sendable (Scene) throws -> [String]
            ) {
                self.description = description
                self.status = status
                self.mentioning = mentioning
                self.arguments = arguments
            }
        }

        private static let long = String(repeating: "x", count: 4096)

        private static let wrong: [Wrong] = [
            Wrong("a missing folder", 2, "nowhere") { ["save", $0.folder + "/nowhere", "--step", "1"] },
            Wrong("a missing file below a file", 2, "config.json") {
                ["save", $0.source + "/config.json/x", "--step", "1"]
            },
            Wrong("an empty folder", 2, "empty") {
                ["save", $0.source + "/empty", "--step", "1", "--run", "r"]
            },
            Wrong("a folder without a step", 2, "--step") { ["save", $0.source, "--run", "r"] },
            Wrong("a device", 2, "device") { _ in ["save", "/dev/null", "--step", "1", "--run", "r"] },
            Wrong("the store itself", 2, "store") { ["save", $0.store, "--step", "1", "--run", "r"] },
            Wrong("a folder around the store", 2, "store") {
                ["save", $0.folder, "--step", "1", "--run", "r"]
            },
            Wrong("a link to nothing", 2, "link") { scene in
                symlink("/nowhere/at/all", scene.source + "/dangling")
                return ["save", scene.source, "--step", "1", "--run", "r", "--follow-links"]
            },
            Wrong("a pipe inside", 2, "pipe") { scene in
                mkfifo(scene.source + "/fifo", 0o600)
                return ["save", scene.source, "--step", "1", "--run", "r"]
            },
            Wrong("the same step with other content", 1, "--replace") {
                ["save", $0.source, "--step", "30", "--run", "r"]
            },
            Wrong("a negative step", 2, "-5") { ["save", $0.source, "--step=-5", "--run", "r"] },
            Wrong("a negative step as a word of its own", 2, "step") {
                ["save", $0.source, "--step", "-5", "--run", "r"]
            },
            Wrong("a step beyond every number", 2, "99999999999999999999999") {
                ["save", $0.source, "--step", "99999999999999999999999", "--run", "r"]
            },
            Wrong("a step beyond 2^53", 2, "9007199254740992") {
                ["save", $0.source, "--step", "9007199254740992", "--run", "r"]
            },
            Wrong("a step that is no number", 2, "1e3") {
                ["save", $0.source, "--step", "1e3", "--run", "r"]
            },
            Wrong("an empty step", 2, "step") { ["save", $0.source, "--step", "", "--run", "r"] },
            Wrong("a run with a newline", 2, "run") { ["save", $0.source, "--step", "1", "--run", "a\nb"] },
            Wrong("a run of 4,096 characters", 2, "128") {
                ["save", $0.source, "--step", "1", "--run", long]
            },
            Wrong("a run that is a path", 2, "run") { ["save", $0.source, "--step", "1", "--run", "../up"] },
            Wrong("a pin with a newline", 2, "pin") {
                ["save", $0.source, "--step", "1", "--run", "r", "--pin", "a\nb"]
            },
            Wrong("a path of 4,096 characters", 2, "name") {
                ["save", $0.folder + "/" + long, "--step", "1", "--run", "r"]
            },
            Wrong("a path with a newline", 2, "a\\nb") {
                ["save", $0.folder + "/a\nb", "--step", "1", "--run", "r"]
            },
            Wrong("an unknown step", 2, "31") { ["restore", "r@31", $0.folder + "/to"] },
            Wrong("an unknown run", 2, "nobody") { ["restore", "nobody@30", $0.folder + "/to"] },
            Wrong("an unknown id", 2, "abcdef") { ["restore", "r@#abcdef", $0.folder + "/to"] },
            Wrong("an id of two digits", 2, "6") { ["restore", "#ab", $0.folder + "/to"] },
            Wrong("an unknown pin", 2, "golden") { ["restore", "golden", $0.folder + "/to"] },
            Wrong("a reference with a newline", 2, "") { ["restore", "r@3\n0", $0.folder + "/to"] },
            Wrong("a reference of 4,096 characters", 2, "") { ["restore", long, $0.folder + "/to"] },
            Wrong("best without a metric", 2, "metric") { ["restore", "r@best", $0.folder + "/to"] },
            Wrong("a destination that exists", 1, "--force") { ["restore", "r@30", $0.source] },
            Wrong("a destination that is a file", 1, "--force") {
                ["restore", "r@30", $0.source + "/config.json"]
            },
            Wrong("a destination below a file", 2, "config.json") {
                ["restore", "r@30", $0.source + "/config.json/to"]
            },
            Wrong("a destination of 4,096 characters", 2, "name") {
                ["restore", "r@30", $0.folder + "/" + long]
            },
            Wrong("the store as a destination", 2, "the store") { ["restore", "r@30", $0.store, "--force"] },
            Wrong("a destination in the store", 2, "the store") { ["restore", "r@30", $0.store + "/a/b"] },
            Wrong("a destination around the store", 2, "the store") {
                ["restore", "r@30", $0.folder, "--force"]
            },
            Wrong("an export over the store", 2, "the store") {
                ["export", "r@30", $0.store + "/", "--layout", "hf", "--force"]
            },
            Wrong("another store as a destination", 2, "another store") { scene in
                try Child.run(["cp", "-a", scene.store, scene.folder + "/other"]).mustSucceed()
                return ["restore", "r@30", scene.folder + "/other", "--force"]
            },
            Wrong("no destination", 2, "destination") { _ in ["restore", "r@30", ""] },
            Wrong("no file that matches", 2, "*.nothing") {
                ["restore", "r@30", $0.folder + "/to", "--path", "*.nothing"]
            },
            Wrong("an unreachable step beyond all", 2, "latest") {
                ["restore", "r@latest-1", $0.folder + "/to"]
            },
            Wrong("a file that was not saved", 2, "show") { _ in ["cat", "r@30", "nowhere"] },
            Wrong("a folder for a file", 2, "extra") { _ in ["cat", "r@30", "extra"] },
            Wrong("a layout that nobody knows", 2, "megatron") {
                ["export", "r@30", $0.folder + "/to", "--layout", "megatron"]
            },
            Wrong("an export without a layout", 2, "--layout") { ["export", "r@30", $0.folder + "/to"] },
            Wrong("an export of no tensor", 2, "zz+") {
                ["export", "r@30", $0.folder + "/to", "--layout", "hf", "--only", "zz+"]
            },
            Wrong("an export by no pattern", 2, "regular expression") {
                ["export", "r@30", $0.folder + "/to", "--layout", "hf", "--only", "("]
            },
            Wrong("an export in shards of nothing", 2, "shard") {
                ["export", "r@30", $0.folder + "/to", "--layout", "hf", "--max-shard-size", "0"]
            },
            Wrong("an export of all where something is", 1, "--force") {
                ["export", "r@30", $0.source, "--layout", "hf", "--all"]
            },
            Wrong("a comparison with nothing", 2, "31") { _ in ["diff", "r@30", "r@31"] },
            Wrong("a note on nothing", 2, "31") { _ in ["annotate", "r@31", "--note", "x"] },
            Wrong("a metric that is no number", 2, "much") { _ in
                ["annotate", "r@30", "--metric", "loss=much"]
            },
            Wrong("going back to nothing", 2, "31") { _ in ["rewind", "r@31"] },
            Wrong("a pin that is a number", 2, "500") { _ in ["pin", "r@30", "500"] },
            Wrong("a pin that is a selector", 2, "latest") { _ in ["pin", "r@30", "latest"] },
            Wrong("a pin on nothing", 2, "31") { _ in ["pin", "r@31", "gold"] },
            Wrong("taking away a pin that is not there", 2, "gold") { _ in ["unpin", "gold"] },
            Wrong("a policy of a run that is a path", 2, "run") { _ in
                ["policy", "--run", "../up", "--keep-last", "1"]
            },
            Wrong("the policy of an unknown run", 2, "nobody") { _ in ["policy", "--run", "nobody"] },
            Wrong("no policy for an unknown run", 2, "nobody") { _ in
                ["policy", "--run", "nobody", "--clear"]
            },
            Wrong("an empty note", 2, "--note") { _ in ["annotate", "r@30", "--note", ""] },
            Wrong("verifying nothing", 2, "31") { _ in ["verify", "r@31"] },
            Wrong("a list of an unknown run", 2, "nobody") { _ in ["list", "--run", "nobody"] },
            Wrong("repairing from nowhere", 2, "nowhere") { ["repair", "--from", $0.folder + "/nowhere"] },
            Wrong("metadata that is no JSON", 2, "JSON") {
                ["save", $0.source, "--step", "1", "--run", "r", "--meta-file", $0.source + "/optimizer.bin"]
            },
            Wrong("a base that is not there", 2, "31") {
                ["save", $0.source, "--step", "1", "--run", "r", "--base", "r@31"]
            },
            Wrong("a bound below what a chunk takes", 2, "--recovery-factor") { _ in
                ["init", "--recovery-factor", "0"]
            },
            Wrong("a chain beyond what is read", 2, "--recovery-records") { _ in
                ["init", "--recovery-records", "65"]
            },
            Wrong("deleting the newest", 1, "newest") { _ in ["delete", "r@30"] },
            Wrong("deleting what is not there", 2, "31") { _ in ["delete", "r@31"] },
            Wrong("an unknown option", 2, "--nonsense") { _ in ["gc", "--nonsense"] },
            Wrong("an absurd number of jobs", 2, "jobs") { _ in ["list", "--jobs", "0"] },
        ]

        @Test("Wrong usage is one sentence and changes nothing")
        func wrongUsage() {
            Weather.note("\(Self.wrong.count) wrong commands")
            Weather.forEach(Self.wrong) { one in
                let scene = try Scene()
                let arguments = try one.arguments(scene)
                let before = try scene.contents()
                try scene.cairn(arguments).mustFail(one.status, mentioning: one.mentioning)
                try require(try scene.contents() == before, "the store has changed")
                let asJSON = try scene.cairn(arguments + ["--json"])
                let document = try asJSON.json() as? [String: Any]
                let fields = document?["error"] as? [String: Any]
                try require(
                    asJSON.status == one.status && fields?["code"] is String && fields?["message"] is String,
                    "with --json: \(asJSON.summary) \(asJSON.output)")
                try require(try scene.temporaryFiles().isEmpty, "left something behind")
            }
        }

        @Test("What is no store, or one of a newer version, is said so")
        func notAStore() {
            let cases: [(String, Int32, String, @Sendable (String) throws -> Void)] = [
                ("nothing at all", 1, "cairn init", { try FileManager.default.removeItem(atPath: $0) }),
                ("an empty folder", 1, "not a store", { try Self.empty($0) }),
                (
                    "a file", 1, "not a store",
                    { store in
                        try FileManager.default.removeItem(atPath: store)
                        try Data("hello".utf8).write(to: URL(fileURLWithPath: store))
                    }
                ),
                (
                    "a newer version", 1, "newer",
                    { try Data("{\"format\": 2}\n".utf8).write(to: URL(fileURLWithPath: $0 + "/cairn.json")) }
                ),
                (
                    "a description of noise", 1, "cairn.json",
                    { try Data([0, 255, 1, 2]).write(to: URL(fileURLWithPath: $0 + "/cairn.json")) }
                ),
                (
                    "an empty journal without an index", 3, "journal",
                    {
                        try Data().write(to: URL(fileURLWithPath: $0 + "/journal"))
                        try FileManager.default.removeItem(atPath: $0 + "/index/data.mdb")
                    }
                ),
                ("no journal", 2, "journal", { try FileManager.default.removeItem(atPath: $0 + "/journal") }),
                ("no locks", 2, "locks", { try FileManager.default.removeItem(atPath: $0 + "/locks") }),
            ]
            let commands = [["list"], ["save", "SOURCE", "--run", "r", "--step", "40"], ["gc"], ["verify"]]
            Weather.forEach([Int](cases.indices)) { index in
                let (name, status, part, spoil) = cases[index]
                for command in commands {
                    let scene = try Scene()
                    try spoil(scene.store)
                    let arguments = command.map { $0 == "SOURCE" ? scene.source : $0 }
                    do {
                        try scene.cairn(arguments).mustFail(status, mentioning: part)
                    } catch {
                        throw Trouble("\(name), \(command[0]): \(error)")
                    }
                }
            }
        }

        private static func empty(_ folder: String) throws {
            try FileManager.default.removeItem(atPath: folder)
            try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: false)
        }

        @Test("A store can't be made where something is")
        func initOverSomething() throws {
            let scene = try Scene()
            let before = try scene.contents()
            try scene.cairn(["init"]).mustFail(1, mentioning: "store already")
            #expect(try scene.contents() == before)
            try Scene.cairn(["init", "--store", scene.source]).mustFail(1, mentioning: "empty")
            try Scene.cairn(["init", "--store", scene.folder + "/x", "--chunk-size", "5000"]).mustFail(2)
            try Scene.cairn(["list"]).mustFail(2, mentioning: "--store")
        }

        @Test("Two runs without a main one make a reference ambiguous, and the sentence lists them")
        func ambiguous() throws {
            let scene = try Scene()
            try scene.cairn(["save", scene.source, "--run", "other", "--step", "1"]).mustSucceed()
            let before = try scene.contents()
            for reference in ["latest", "30"] {
                let ending = try scene.cairn(["restore", reference, scene.folder + "/to"])
                try ending.mustFail(2, mentioning: "other")
            }
            #expect(try scene.contents() == before)
        }

        @Test("A run that holds nothing makes no reference ambiguous, and its first save is remembered")
        func runsWithoutIterations() throws {
            let scene = try Scene()
            try scene.cairn(["policy", "--run", "later", "--keep-last", "3"]).mustSucceed()
            try scene.cairn(["restore", "latest", scene.folder + "/to"]).mustSucceed()
            try Scene.next.write(to: scene.folder + "/out/checkpoint-1")
            try scene.cairn(["save", scene.folder + "/out/checkpoint-1", "--run", "later"]).mustSucceed()
            try Scene.next.write(to: scene.folder + "/out/checkpoint-2")
            let again = try scene.cairn(["save", scene.folder + "/out/checkpoint-2"])
            try again.mustSucceed()
            #expect(again.output.contains("later@2"))
            try scene.cairn(["delete", "--run", "later"]).mustSucceed()
            try scene.cairn(["show", "latest"]).mustSucceed()
            try scene.cairn(["verify"]).mustSucceed()
        }

        @Test("The same step again with the same content says so; --replace takes the old one's place")
        func again() throws {
            let scene = try Scene()
            try scene.cairn(scene.saveArguments).mustSucceed()
            let before = try scene.packFiles()
            let again = try scene.cairn(scene.saveArguments)
            try again.mustSucceed()
            let fields = try again.json() as? [String: Any]
            #expect(fields?["unchanged"] as? Bool == true && fields?["newBytes"] as? Int == 0)
            #expect(
                try scene.cairn(["save", scene.source, "--run", "r", "--step", "40"]).output.contains(
                    "already"))
            #expect(try scene.packFiles().count == before.count)
            scene.committed.withLock { $0[40] = Scene.next }
            let replacement = Checkpoint(run: 1, step: 41)
            try replacement.write(to: scene.folder + "/replacement")
            let arguments = ["save", scene.folder + "/replacement", "--run", "r", "--step", "40"]
            try scene.cairn(arguments).mustFail(1, mentioning: "--replace")
            try scene.cairn(arguments + ["--replace"]).mustSucceed()
            scene.committed.withLock { $0[40] = replacement }
            try scene.checkIntact()
        }

        @Test("Names with newlines, other bytes than UTF-8 and 255 characters come back as they were")
        func strangeNames() throws {
            let scene = try Scene()
            var checkpoint = Checkpoint(run: 1, step: 40)
            let folder = [UInt8]("a\nb\u{1B}[31m".utf8)
            checkpoint.nodes[folder] = .folder
            checkpoint.nodes[folder + [0x2F, 0xFF, 0xFE, 0x80]] = .file([1, 2, 3], mode: 0o644)
            checkpoint.nodes[[UInt8](repeating: 0x79, count: 255)] = .file([4], mode: 0o644)
            checkpoint.nodes[[UInt8]("-rf *; \" ' \\ %s".utf8)] = .file([5], mode: 0o644)
            checkpoint.nodes[[UInt8](".hidden\r".utf8)] = .file([6], mode: 0o600)
            try Child.run(["rm", "-rf", scene.source]).mustSucceed()
            try checkpoint.write(to: scene.source)
            // Also where the folders of source, store and destination have such names.
            let strange = scene.folder + "/odd\n ü\u{7}"
            try FileManager.default.createDirectory(atPath: strange, withIntermediateDirectories: false)
            let store = strange + "/store\n"
            try Scene.cairn(["init", "--store", store, "--chunk-size", "4KiB"]).mustSucceed("init")
            try Child.run(["mv", scene.source, strange + "/source\t"]).mustSucceed()
            for each in [scene.store, store] {
                let save = ["save", strange + "/source\t", "--run", "r", "--step", "40", "--store", each]
                try Scene.cairn(save).mustSucceed("save")
                let place = strange + "/to\n\(each == store)"
                try Scene.cairn(["restore", "r@40", place, "--store", each]).mustSucceed("restore")
                #expect(checkpoint.difference(from: try Checkpoint.read(place)) == nil)
                let show = try Scene.cairn(["show", "r@40", "--files", "--store", each])
                try show.mustSucceed("show")
                #expect(!show.output.contains("\u{1B}"), "an escape sequence reaches the terminal")
                try Scene.cairn(["verify", "--store", each]).mustSucceed("verify")
                try Scene.cairn(["gc", "--store", each]).mustSucceed("gc")
            }
            #expect(try FileManager.default.contentsOfDirectory(atPath: strange + "/").count == 4)
        }

        /// Makes a chain of folders of 250 characters each, as deep as `levels`, with a file at its end; each from within the one
        /// above, since from some depth on no path names them.
        private func makeChain(_ folder: String, levels: Int) throws {
            let script = """
                mkdir "$1"; cd "$1"
                for i in $(seq "$2"); do mkdir $3; cd -P $3; done
                echo deep > file
                """
            try Child.run([
                "bash", "-euc", script, "-", folder, "\(levels)", String(repeating: "d", count: 250),
            ]).mustSucceed()
        }

        @Test("Paths of 4,096 characters are saved and restored, or refused in a sentence")
        func longPaths() throws {
            let scene = try Scene()
            try makeChain(scene.folder + "/long", levels: 15)
            try scene.cairn(["save", scene.folder + "/long", "--run", "r", "--step", "40"]).mustSucceed(
                "save")
            let back = scene.folder + "/back"
            try scene.cairn(["restore", "r@40", back]).mustSucceed("restore")
            try Child.run(["diff", "-r", scene.folder + "/long", back]).mustSucceed("the comparison")
            // Where the same paths are too long: nothing is left there.
            let narrow = scene.folder + "/" + String(repeating: "n", count: 250)
            try FileManager.default.createDirectory(atPath: narrow, withIntermediateDirectories: false)
            try scene.cairn(["restore", "r@40", narrow + "/to"]).mustFail(2, mentioning: "too long")
            #expect(try FileManager.default.contentsOfDirectory(atPath: narrow).isEmpty)
            // A source that no path names to its end.
            try makeChain(scene.folder + "/endless", levels: 20)
            let before = try scene.contents()
            try scene.cairn(["save", scene.folder + "/endless", "--run", "r", "--step", "41"]).mustFail(
                2, mentioning: "too long")
            #expect(try scene.contents() == before)
            // The longest name that there is, as a destination.
            let longest = scene.folder + "/" + String(repeating: "z", count: 255)
            try scene.cairn(["restore", "r@30", longest]).mustSucceed("restore to a long name")
            try scene.cairn(["restore", "r@30", longest, "--force"]).mustSucceed("restore once more")
            try scene.cairn(["export", "r@30", longest, "--layout", "hf", "--force"]).mustSucceed("export")
            try Child.run(["bash", "-c", "cd $0 && rm -rf endless long back z*", scene.folder]).mustSucceed()
            try scene.cairn(["verify"]).mustSucceed()
            #expect(try scene.temporaryFiles().isEmpty)
        }

        @Test("Metrics, metadata and notes with newlines and 4,096 characters stay on their lines")
        func strangeWords() throws {
            let scene = try Scene()
            let words = ["--metric", "a\nb=1", "--metric", Self.long + "=2", "--meta", "k\u{1B}[31m=v\nw"]
            try scene.cairn(scene.saveArguments + words).mustSucceed()
            try scene.cairn(["annotate", "r@40", "--note", "one\ntwo\u{7}"]).mustSucceed()
            for arguments in [["list"], ["show", "r@40"]] {
                let ending = try scene.cairn(arguments)
                try ending.mustSucceed()
                #expect(!ending.output.contains("\u{1B}") && !ending.output.contains("\u{7}"))
                #expect(ending.output.contains("a\\nb"))
            }
            let document = try scene.cairn(["show", "r@40", "--json"]).json() as? [String: Any]
            let metadata = document?["metadata"] as? [String: String]
            #expect(metadata == ["k\u{1B}[31m": "v\nw"])
            #expect((document?["metrics"] as? [String: Double])?[Self.long] == 2)
            #expect(document?["notes"] as? [String] == ["one\ntwo\u{7}"])
            scene.committed.withLock { $0[40] = Scene.next }
            try scene.checkIntact()
        }

        @Test("Arguments that are not UTF-8 name what they name, or nothing")
        func otherArguments() throws {
            let scene = try Scene()
            let source = [UInt8]((scene.folder + "/").utf8) + [0x66, 0xFF, 0xFE]
            try Child([[UInt8]("mv".utf8), [UInt8](scene.source.utf8), source]).wait().mustSucceed()
            let arguments = ["save", "--run", "r", "--step", "40", "--store", scene.store].map {
                [UInt8]($0.utf8)
            }
            let ending = try Child([[UInt8](Weather.program.utf8)] + arguments + [source]).wait()
            if ending.status == 0 {
                scene.committed.withLock { $0[40] = Scene.next }
            } else {
                try ending.mustFail(2)
            }
            try scene.checkIntact()
        }
    }
}
