import Testing

@testable import Cairn

/// Patterns of names, as Python's `re.match` takes them.
@Suite struct PythonPatternTests {
    @Test(
        arguments: [
            (
                #"^block\.o_proj\.weight$"#, ["block.o_proj.weight"],
                ["block.o_proj.weights", "a.block.o_proj.weight", "blockxo_proj.weight"]
            ),
            (
                #"\d+.input_layernorm.weight"#,
                ["1.input_layernorm.weight", "23xinput_layernorm.weight.more"],
                ["a1.input_layernorm.weight", ".input_layernorm.weight"]
            ),
            (
                ".*\\.experts\\.w[123]$", ["a.experts.w1", ".experts.w3"],
                ["a.experts.w4", "experts.w1", "a.experts.w1x"]
            ),
            ("[a-c_]*[^.]d?e+$", ["abc_xdee", "xe", "xde"], ["abc.de", "xd", "e"]),
            (
                "a*a*a*a*a*a*a*a*a*a*b$", [String(repeating: "a", count: 200) + "b"],
                [String(repeating: "a", count: 200)]
            ),
            (#"tr\-an\_s\w+$"#, ["tr-an_sX9"], ["tr-an_s", "tr-an_s-"]), ("", ["", "anything"], []),
            ("^$", [""], ["a"]),
            ("[]a]$", ["]", "a"], ["b"]), ("[a-]$", ["-", "a"], ["b"]), ("Ä.$", ["Äx"], ["A", "Ä"]),
        ] as [(String, [String], [String])])
    func namesMatchFromTheirBeginning(pattern: String, matching: [String], others: [String]) throws {
        let pattern = try #require(PythonPattern(pattern))
        for name in matching { #expect(pattern.matches(name), "\(name)") }
        for name in others { #expect(!pattern.matches(name), "\(name)") }
    }

    @Test func aLiteralIsKnownAsOne() {
        #expect(PythonPattern(#"^a\.b\-c$"#)?.literal == "a.b-c")
        for other in ["a.b$", #"a\.b"#, "a+$", "[ab]$"] { #expect(PythonPattern(other)?.literal == nil) }
    }

    @Test(arguments: [
        "(a)", "a|b", "a{2}", "*a", "a**", "a+?x+*", "[a", "a]", #"\s"#, #"a\"#, "a^", "$a", "[b-a]", "[",
        "[]", "[[:digit:]]",
        String(repeating: "a", count: 5000),
    ])
    func whatIsNotUnderstoodIsNoPattern(text: String) {
        #expect(PythonPattern(text) == nil)
    }

    @Test func ofSeveralOneMayMatch() throws {
        var patterns = PythonPatterns<Int>()
        try patterns.add("^a$", 1)
        try patterns.add("b.*", 2)
        #expect(try patterns.value(of: "a") == 1)
        #expect(try patterns.value(of: "bx") == 2)
        #expect(try patterns.value(of: "c") == nil)
        #expect(patterns.unused(among: ["a"]) == "b.*" && patterns.unused(among: ["b"]) == "^a$")
        #expect(patterns.unused(among: ["a", "b"]) == nil)
        try patterns.add("a", 3)
        #expect(throws: CairnError.self) { try patterns.value(of: "a") }
        #expect(throws: CairnError.self) { try patterns.add("(", 4) }
        for _ in 0..<254 { try patterns.add("x", 5) }
        #expect(throws: CairnError.self) { try patterns.add("x", 5) }
    }
}
