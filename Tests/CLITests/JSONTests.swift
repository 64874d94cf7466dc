import Cairn
import Testing

@testable import CairnCLI

struct JSONTests {
    private func text(_ value: JSON) -> String { String(decoding: value.line, as: UTF8.self) }

    @Test func `Metrics that are no numbers are null`() {
        let metrics = ["loss": Double.nan, "accuracy": 0.5, "perplexity": .infinity]
        #expect(text(JSON(metrics: metrics)) == #"{"accuracy":0.5,"loss":null,"perplexity":null}"# + "\n")
    }

    @Test func `Control characters, quotes and backslashes are escaped`() {
        #expect(text(JSON("a\u{0}\u{1F}\n\"\\\u{1B}é模")) == #""a\u0000\u001f\n\"\\\u001bé模""# + "\n")
    }

    @Test func `Metadata is JSON within JSON, and what is none is text`() {
        let value = JSON(metadata: ["a": "[1, null]", "b": "\"x\"", "c": "not json"])
        #expect(text(value) == #"{"a":[1,null],"b":"x","c":"not json"}"# + "\n")
    }

    @Test func `Text given with --meta stays text`() throws {
        let pair = try Arguments.metadata("seed=42=\"x\"")
        #expect(pair.name == "seed")
        #expect(pair.json == #""42=\"x\"""#)
    }

    @Test func `Errors have the contract's three fields`() {
        let error = CairnError(.notFound, "no such run", path: "/s")
        #expect(
            text(JSON(error))
                == #"{"error":{"code":"not-found","message":"no such run","path":"/s"}}"# + "\n")
        #expect(text(JSON(CairnError(.usage, "x"))).contains(#""path":null"#))
    }

    @Test func `A save has the contract's fields in one line`() throws {
        let result = SaveResult(
            run: "main", step: 500, id: "ab", tensors: 2, files: 1, logicalBytes: 10, newBytes: 5,
            storedBytes: 7,
            chunks: 3, newChunks: 1, seconds: 0.25)
        let line = JSON(result).line
        #expect(line.filter { $0 == UInt8(ascii: "\n") }.count == 1)
        let value = try JSON(parsing: line)
        let names = [
            "run", "step", "id", "tensors", "files", "logicalBytes", "newBytes", "storedBytes", "chunks",
            "newChunks",
            "seconds",
        ]
        for name in names { #expect(value[name] != nil, "\(name) is missing") }
        #expect(value["step"] == .integer(500))
    }

    @Test func `Reports have the contract's fields`() {
        let fields: [(JSON, [String])] = [
            (
                JSON(CollectionResult()),
                ["deletedIterations", "reclaimedBytes", "liveBytes", "dryRun"]
            ),
            (JSON(VerifyReport()), ["ok", "checkedBytes", "damaged"]),
            (JSON(IterationDiff()), ["added", "removed", "changed", "unchanged"]),
            (
                JSON(StoreStats()),
                ["logicalBytes", "uniqueBytes", "storedBytes", "indexBytes", "chunks", "packs", "iterations"]
            ),
            (
                JSON(RestoreResult(run: "main", step: 1, id: "ab", path: "/d")),
                ["run", "step", "id", "path", "files", "bytes", "seconds"]
            ),
            (JSON(PinInfo(name: "p", run: "main", step: 1, id: "ab")), ["name", "run", "step", "id"]),
        ]
        for (value, names) in fields {
            for name in names { #expect(value[name] != nil, "\(name) is missing") }
        }
    }
}
