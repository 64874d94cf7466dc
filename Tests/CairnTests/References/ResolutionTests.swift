import Cairn
import ChunkStore
import Platform
import Testing

struct ResolutionTests {
    private static let scope = Reference.Scope(
        iterations: [
            iteration(1, "main", 100, ["loss": 3, "acc": 0.5]),
            iteration(2, "main", 200, ["loss": 1, "acc": .nan]),
            iteration(3, "main", 300, ["loss": 1, "acc": 0.5]),
            iteration(4, "main", 400, ["acc": 0.9], superseded: true),
            iteration(
                5, "sft", 10, ["reward": -1, "gap": -.infinity], metadata: ["best_metric_name": "\"reward\""]),
            iteration(6, "sft", 20, ["reward": -2, "gap": .nan, "odd": .nan]),
            iteration(7, "old", 1, [:], superseded: true),
        ],
        pins: ["release": 2, "v1.0": 5],
        policies: ["main": Policy(keepBest: [.init(count: 1, metric: "acc", direction: .min)])],
        runs: ["sft", "main", "old", "empty"])

    private static func iteration(
        _ number: UInt64, _ run: String, _ step: UInt64, _ metrics: [String: Double],
        metadata: [String: String] = [:], superseded: Bool = false
    ) -> IterationInfo {
        IterationInfo(
            number: number, run: run, step: step, id: number > 5 ? id(UInt8(number)) : twin(UInt8(number)),
            createdAt: Int64(number), metrics: metrics, metadata: metadata, superseded: superseded)
    }

    /// Ids that begin alike: abcdef, then the number.
    private static func twin(_ number: UInt8) -> ChunkID {
        ChunkID(hex: "abcdef" + [number].hex + String(repeating: "0", count: 56))!
    }

    private static func code(_ text: String, _ scope: Reference.Scope = scope) -> (CairnError.Code, String)? {
        do {
            _ = try Reference(text).resolve(in: scope)
            return nil
        } catch {
            return (error.code, error.message)
        }
    }

    @Test(
        "finds the iteration that is meant",
        arguments: [
            ("latest", 3), ("main@latest", 3), ("sft@latest", 6), ("200", 2), ("400", 4), ("sft@10", 5),
            ("release", 2), ("v1.0", 5), ("sft@v1.0", 5), ("#abcdef03", 3), ("#ABCDEF03", 3),
            ("main@#abcdef03", 3),
            ("sft@#abcdef", 5), ("best:loss", 2), ("best:loss:max", 1), ("best", 1), ("best:acc", 1),
            ("best:acc:max", 4), ("sft@best", 5), ("sft@best:reward", 5), ("sft@best:reward:min", 6),
            ("sft@best:gap", 5), ("sft@best:gap:min", 5), ("old@1", 7),
        ] as [(String, UInt64)])
    func found(text: String, number: UInt64) throws {
        #expect(try Reference(text).resolve(in: Self.scope).number == number)
    }

    @Test(
        "says what there is instead of what is not there",
        arguments: [
            ("nope@latest", CairnError.Code.notFound, "empty, main, old, sft"),
            ("250", .notFound, "200 or 300"), ("50", .notFound, "at 100"), ("999", .notFound, "at 400"),
            ("gone", .notFound, "release, v1.0"), ("sft@release", .notFound, "on run main"),
            ("#123456", .notFound, "begins with 123456"), ("sft@#abcdef03", .notFound, "in run sft"),
            ("#abcdef", .ambiguous, "main@100 (#abcdef010000), main@200"),
            ("best:f1", .notFound, "acc, loss"), ("empty@latest", .notFound, "holds no iteration"),
            ("empty@best:x", .notFound, "holds no iteration"), ("old@latest", .notFound, "superseded"),
            ("old@best", .notFound, "best:METRIC"), ("old@best:x", .notFound, "annotate"),
            ("sft@best:odd", .notFound, "odd"),
        ])
    func missing(text: String, code: CairnError.Code, hint: String) throws {
        let found = try #require(Self.code(text))
        #expect(found.0 == code)
        #expect(found.1.contains(hint), "\(found.1)")
    }

    @Test("without RUN@ takes the only run, else main, else asks which")
    func runs() throws {
        var scope = Self.scope
        scope.runs = ["sft"]
        #expect(try Reference("latest").resolve(in: scope).number == 6)
        scope.runs = ["sft", "old"]
        let ambiguous = try #require(Self.code("latest", scope))
        #expect(ambiguous.0 == .ambiguous && ambiguous.1.contains("old, sft"))
        #expect(try Reference("v1.0").resolve(in: scope).number == 5)
        scope.runs = ["sft", "only-a-policy", "main"]
        scope.iterations.removeAll { $0.run == "main" }
        #expect(try Reference("latest").resolve(in: scope).number == 6)
        scope = Reference.Scope(iterations: [], pins: [:], runs: [])
        #expect(Self.code("latest", scope)?.0 == .notFound)
        #expect(Self.code("x@latest", scope)?.0 == .notFound)
        #expect(Self.code("pin", scope)?.1.contains("no pins") == true)
    }

    @Test("of plain best, the policy's metric beats the framework's, and several are ambiguous")
    func plainBest() throws {
        var scope = Self.scope
        scope.policies["sft"] = Policy(keepBest: [.init(count: 3, metric: "reward", direction: .min)])
        #expect(try Reference("sft@best").resolve(in: scope).number == 6)
        #expect(try Reference("sft@best:reward:max").resolve(in: scope).number == 5)
        scope.policies["sft"]?.keepBest.append(.init(count: 1, metric: "loss"))
        let several = try #require(Self.code("sft@best", scope))
        #expect(several.0 == .ambiguous && several.1.contains("best:reward, best:loss"))
        scope.policies["sft"] = nil
        scope.iterations[4].metadata = ["best_metric_name": "not JSON"]
        #expect(Self.code("sft@best", scope)?.0 == .notFound)
    }

    @Test("of equal metrics the earliest step is best, in whatever order they come")
    func ties() throws {
        var scope = Self.scope
        scope.iterations.reverse()
        #expect(try Reference("best:loss").resolve(in: scope).number == 2)
    }
}
