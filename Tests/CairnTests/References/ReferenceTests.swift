import Cairn
import Platform
import Testing

struct ReferenceTests {
    @Test(
        "reads the grammar",
        arguments: [
            ("latest", Reference(selector: .latest)),
            ("best", Reference(selector: .best(metric: nil, direction: nil))),
            ("best:eval_loss", Reference(selector: .best(metric: "eval_loss", direction: nil))),
            ("best:eval_loss:max", Reference(selector: .best(metric: "eval_loss", direction: .max))),
            ("best:a:b:min", Reference(selector: .best(metric: "a:b", direction: .min))),
            ("best:min", Reference(selector: .best(metric: "min", direction: nil))),
            ("best:recall@10", Reference(selector: .best(metric: "recall@10", direction: nil))),
            (
                "r@best:recall@10:min",
                Reference(run: "r", selector: .best(metric: "recall@10", direction: .min))
            ),
            ("0", Reference(selector: .step(0))),
            ("9007199254740991", Reference(selector: .step(9_007_199_254_740_991))),
            ("qwen3-sft@500", Reference(run: "qwen3-sft", selector: .step(500))),
            ("v1.0", Reference(selector: .pin("v1.0"))),
            ("500a", Reference(selector: .pin("500a"))),
            ("a-5", Reference(selector: .pin("a-5"))),
            ("Latest", Reference(selector: .pin("Latest"))),
            ("main@release", Reference(run: "main", selector: .pin("release"))),
            ("#abcdef", Reference(selector: .id("abcdef"))),
            ("main@#ABCdef0123", Reference(run: "main", selector: .id("abcdef0123"))),
        ])
    func grammar(text: String, expected: Reference) throws {
        let reference = try Reference(text)
        #expect(reference == expected)
        #expect(try Reference(reference.description) == expected)
    }

    @Test("takes leading zeros, as folders have them")
    func zeros() throws {
        #expect(try Reference("00000500").selector == .step(500))
    }

    @Test(
        "refuses everything else as wrong usage",
        arguments: [
            "", "@", "@latest", "main@", "a@b@c", "12@latest", "latest@latest", "best@5", "..@latest",
            "best:", "best::min",
            "-5", "-0", "+5", "-", "1 ", " 1", "9007199254740992", "18446744073709551616",
            "99999999999999999999999999", "#", "#abcde", "#abcdeg", "#" + String(repeating: "a", count: 65),
            "a b",
            "é", "a/b", ".", "..", "latest:x", "1e 5", "#１２３４５６",
        ])
    func refusals(text: String) {
        let error = #expect(throws: CairnError.self) { try Reference(text) }
        #expect(error?.code == .usage)
    }

    @Test("says what is wrong with a name, without what a terminal would obey")
    func sentences() throws {
        let escape = try #require(#expect(throws: CairnError.self) { try RunName("a\u{1B}[2Jb") })
        #expect(escape.message.contains("\\x1b[2Jb"))
        #expect(!escape.message.contains("\u{1B}"))
        let long = try #require(
            #expect(throws: CairnError.self) { try PinName(String(repeating: "a", count: 10_000)) })
        #expect(long.message.contains("1 to 128"))
        #expect(long.message.count < 300)
    }

    @Test("takes and refuses the same names for runs and pins")
    func names() throws {
        for name in [
            "a", "main", "A.b_c-9", "1a", "1.5", "_", String(repeating: "x", count: 128), "best-1", "-a",
        ] {
            #expect(RunName.isValid(name) && PinName.isValid(name))
            #expect(try RunName(name).text == name)
            #expect(try PinName(name).text == name)
        }
        let refused = [
            "", "1", "007", "latest", "best", ".", "..", "-", "-1", "a@b", "a:b", "a/b", "#a", "ä", "a\n",
        ]
        for name in refused + [String(repeating: "x", count: 129)] {
            #expect(!RunName.isValid(name) && !PinName.isValid(name), "\(name)")
            #expect(throws: CairnError.self) { try RunName(name) }
            #expect(throws: CairnError.self) { try PinName(name) }
        }
        #expect(PinName.isValid(PinName.milestone(step: Step.maximum).text))
    }

    @Test("knows which direction is better")
    func directions() {
        for name in ["loss", "eval_loss", "xloss"] { #expect(Direction.standard(for: name) == .min) }
        for name in ["accuracy", "losses", "Loss", "lossy", ""] {
            #expect(Direction.standard(for: name) == .max)
        }
        #expect(
            Direction.min.prefers(1, to: 2) && !Direction.min.prefers(2, to: 1)
                && !Direction.min.prefers(1, to: 1))
        #expect(Direction.max.prefers(.infinity, to: 2) && !Direction.max.prefers(.nan, to: -.infinity))
        #expect(Direction.max.prefers(-.infinity, to: .nan) && !Direction.max.prefers(.nan, to: .nan))
    }
}
