import Cairn
import Platform
import Testing

struct PolicyTests {
    private static let full = Policy(
        keepLast: 3, keepEvery: 1000,
        keepBest: [.init(count: 2, metric: "eval_loss", direction: .min), .init(count: 1, metric: "a:b")],
        keepWithin: 129_600_000_000_000, keepFirst: true, milestones: [2000, 1000, 2000],
        maxSize: 500_000_000_000,
        auto: true)

    @Test("is written with the names of the flags, in one order")
    func json() throws {
        let expected =
            #"{"keepLast":3,"keepEvery":1000,"keepBest":[{"count":2,"metric":"eval_loss","direction":"min"},"#
            + #"{"count":1,"metric":"a:b"}],"keepWithin":"36h","keepFirst":true,"milestones":[1000,2000],"#
            + #""maxSize":500000000000,"auto":true}"#
        #expect(Self.full.json == expected)
        #expect(try Policy(json: expected) == Self.full)
        #expect(Policy().json == "{}")
        #expect(try Policy(json: " {} ").isEmpty)
        #expect(!Self.full.isEmpty)
    }

    @Test("is read in any order, with white space")
    func order() throws {
        let policy = try Policy(json: "{ \"auto\": true,\n \"milestones\": [3, 1, 3], \"keepLast\": 2 }")
        #expect(policy == Policy(keepLast: 2, milestones: [1, 3], auto: true))
    }

    @Test(
        "refuses what it does not understand, so that nothing is deleted by mistake",
        arguments: [
            (#"{"keepForever":1}"#, CairnError.Code.newerVersion),
            (#"{"keepBest":[{"count":1,"metric":"a","direction":"median"}]}"#, .newerVersion),
            (#"{"keepBest":[{"count":1,"metric":"a","smooth":3}]}"#, .newerVersion),
            (#"{"keepLast":0}"#, .damage), (#"{"keepLast":-1}"#, .damage), (#"{"keepLast":"3"}"#, .damage),
            (#"{"keepLast":1.5}"#, .damage), (#"{"keepLast":3,"keepLast":4}"#, .damage),
            (#"{"keepEvery":0}"#, .damage), (#"{"keepWithin":36}"#, .damage),
            (#"{"keepWithin":"0s"}"#, .damage),
            (#"{"maxSize":0}"#, .damage), (#"{"keepBest":[{"count":0,"metric":"a"}]}"#, .damage),
            (#"{"keepBest":[{"count":1}]}"#, .damage), (#"{"keepBest":[3]}"#, .damage),
            (#"{"milestones":[9007199254740992]}"#, .damage), (#"{"milestones":[-1]}"#, .damage),
            ("[]", .damage), ("", .damage), ("{", .damage), ("null", .damage),
        ])
    func unsound(text: String, code: CairnError.Code) {
        let error = #expect(throws: CairnError.self) { try Policy(json: text) }
        #expect(error?.code == code)
    }

    @Test(
        "refuses flags that could only be mistakes, as wrong usage",
        arguments: [
            Policy(keepLast: 0), Policy(keepLast: -1), Policy(keepEvery: 0), Policy(keepWithin: 0),
            Policy(keepWithin: 1), Policy(maxSize: 0), Policy(milestones: [1 << 53]),
            Policy(keepBest: [.init(count: 0, metric: "a")]), Policy(keepBest: [.init(count: 1, metric: "")]),
        ])
    func mistakes(policy: Policy) {
        let error = #expect(throws: CairnError.self) { try policy.check() }
        #expect(error?.code == .usage)
    }

    @Test(
        "reads N:METRIC[:min|max]",
        arguments: [
            ("3:eval_loss", Policy.Best(count: 3, metric: "eval_loss")),
            ("1:acc:max", Policy.Best(count: 1, metric: "acc", direction: .max)),
            ("2:a:b:min", Policy.Best(count: 2, metric: "a:b", direction: .min)),
            ("2:recall@10", Policy.Best(count: 2, metric: "recall@10")),
        ])
    func best(text: String, expected: Policy.Best) throws {
        #expect(try Policy.Best(parsing: text) == expected)
        #expect(expected.description == text)
    }

    @Test(
        "refuses other best rules", arguments: ["", "3", ":a", "3:", "-1:a", "x:a", "3::min", "eval_loss:3"])
    func unsoundBest(text: String) {
        let error = #expect(throws: CairnError.self) { try Policy.Best(parsing: text) }
        #expect(error?.code == .usage)
    }
}
