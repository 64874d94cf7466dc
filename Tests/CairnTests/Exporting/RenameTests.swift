import Platform
import TensorFormats
import Testing

@testable import Cairn

/// `--rename`: what its rules make of tensors, and what is wrong with them.
@Suite struct RenameTests {
    /// A tensor in which each element is its own source's, from 0 on.
    private func tensor(_ name: String, _ source: Int, _ shape: [UInt64], dtype: String = "F32")
        -> GatheredTensor
    {
        GatheredTensor(
            name: name, dtype: dtype, bits: 32, shape: shape,
            bytes: .source(source, start: 0, count: 4 * shape.reduce(1, *)))
    }

    private func rename(_ text: String) throws -> Rename {
        try Rename(parsing: [UInt8](text.utf8), path: "map.json")
    }

    private func apply(
        _ rules: String, parameters: String = "{}", config: String? = nil, _ tensors: [GatheredTensor]
    ) throws -> [GatheredTensor] {
        let rename = try rename("{\"parameters\": \(parameters), \"rules\": [\(rules)]}")
        return try Renaming(rename, config: config.map { try JSON(parsing: [UInt8]($0.utf8)) }).apply(
            tensors.map { ($0.name, $0) }
        ) { $0 }
    }

    /// Name, shape and elements of each, as `name [2, 3]: 0.0 0.1 ...`.
    private func text(_ tensors: [GatheredTensor]) -> [String] {
        tensors.map { tensor in
            let places = ElementsTests.places(tensor.bytes, 0..<tensor.bytes.count)
            let elements = places.enumerated().filter { $0.offset % 4 == 0 }.map {
                "\($1.source).\($1.index / 4)"
            }
            .joined(separator: " ")
            return "\(tensor.name) \(tensor.shape.text): \(elements)"
        }
    }

    @Test func theFirstRuleThatMatchesAllOfANameCounts() throws {
        let rules = """
            {"match": "a", "to": "short"}, {"match": "a\\\\.(?<kind>[a-z]+)\\\\.(\\\\d+)", "to": "{kind}.{2}.{{x}}"},
            {"match": "a.*", "drop": true}, {"match": ".*", "to": "rest.{0}"}
            """
        #expect(throws: CairnError.self) { try apply(rules, [tensor("b", 0, [1])]) }
        let made = try apply(
            rules, [tensor("a.up.7", 0, [2]), tensor("a", 1, [1]), tensor("a.gone", 2, [1])])
        #expect(text(made) == ["up.7.{x} [2]: 0.0 0.1", "short [1]: 1.0"])
    }

    @Test func layersAreTakenApart() throws {
        let rule = #"{"match": "w", "each": ["layer", "expert"], "to": "l{layer}.e{expert}"}"#
        #expect(
            text(try apply(rule, [tensor("w", 0, [2, 2, 3])])) == [
                "l0.e0 [3]: 0.0 0.1 0.2", "l0.e1 [3]: 0.3 0.4 0.5", "l1.e0 [3]: 0.6 0.7 0.8",
                "l1.e1 [3]: 0.9 0.10 0.11",
            ])
        #expect(text(try apply(rule, [tensor("w", 0, [1, 1])])) == ["l0.e0 []: 0.0"])
    }

    @Test func queriesKeysAndValuesAreTakenFromTheirGroups() throws {
        // Two groups of two queries, a key and a value; heads of one row of one.
        let rule = """
            {"match": "qkv", "to": ["q", "k", "v"],
             "split": {"axis": 0, "as": ["groups", "heads / groups + 2", "*"], "along": 1, "sizes": ["heads / groups", 1, 1]}}
            """
        let parameters = #"{"heads": {"config": "n"}, "groups": {"config": "g", "default": "heads / 2"}}"#
        let made = try apply(
            rule, parameters: parameters, config: #"{"n": 4, "g": null}"#, [tensor("qkv", 0, [8, 1])])
        #expect(
            text(made) == [
                "q [4, 1]: 0.0 0.1 0.4 0.5", "k [2, 1]: 0.2 0.6", "v [2, 1]: 0.3 0.7",
            ])
        // A bias is cut alike.
        let bias = try apply(
            rule, parameters: parameters, config: #"{"n": 4, "g": 1}"#, [tensor("qkv", 0, [12])])
        #expect(
            text(bias) == [
                "q [8]: 0.0 0.1 0.2 0.3 0.4 0.5 0.6 0.7", "k [2]: 0.8 0.9", "v [2]: 0.10 0.11",
            ])
    }

    @Test func equalPartsRowsByTurnsAndRestsAreCut() throws {
        let halves = #"{"match": "w", "to": ["gate", "up"], "split": {}}"#
        #expect(
            text(try apply(halves, [tensor("w", 0, [4, 1])])) == [
                "gate [2, 1]: 0.0 0.1", "up [2, 1]: 0.2 0.3",
            ])
        let turns = #"{"match": "w", "to": ["gate", "up"], "split": {"as": ["*", 2], "along": 1}}"#
        #expect(
            text(try apply(turns, [tensor("w", 0, [4, 1])])) == [
                "gate [2, 1]: 0.0 0.2", "up [2, 1]: 0.1 0.3",
            ])
        let columns = #"{"match": "w", "to": [null, "b"], "split": {"axis": 1, "sizes": [1, "*"]}}"#
        #expect(text(try apply(columns, [tensor("w", 0, [2, 3])])) == ["b [2, 2]: 0.1 0.2 0.4 0.5"])
        #expect(text(try apply(columns, [tensor("w", 0, [2, 1])])) == ["b [2, 0]: "])
    }

    @Test func joiningUndoesSplitting() throws {
        let split = """
            {"match": "(.*)\\\\.qkv", "each": ["layer"], "to": ["{1}.{layer}.q", "{1}.{layer}.k", "{1}.{layer}.v"],
             "split": {"axis": 0, "as": [3, 4, 2], "along": 1, "sizes": [2, 1, 1]}}
            """
        let join = """
            {"match": "(.*)\\\\.(\\\\d+)\\\\.(q|k|v)", "to": "{1}.qkv",
             "join": {"axis": 0, "as": [3, "*", 2], "along": 1, "by": "{3}", "order": ["q", "k", "v"]},
             "stack": {"axis": 0, "by": "{2}"}}
            """
        let whole = tensor("a.qkv", 0, [12, 24, 2])
        let parts = try apply(split, [whole])
        #expect(parts.count == 36 && parts[0].shape == [12, 2] && parts[35].shape == [6, 2])
        // In any order: 10 comes behind 9.
        let again = try apply(join, parts.shuffled())
        #expect(text(again) == text([whole]))
    }

    @Test func anAxisIsTakenApartAsSeveralAndMatricesAreTransposed() throws {
        let rule =
            #"{"match": "w", "as": ["p - 1", "*"], "each": ["expert"], "to": "e{expert}", "transpose": true}"#
        let made = try apply(rule, parameters: #"{"p": 3}"#, [tensor("w", 0, [4, 3])])
        #expect(
            made.map(\.name) == ["e0", "e1"] && made.allSatisfy { $0.shape == [3, 2] && $0.isTransposed })
        // In the order in which they are stored.
        #expect(text(made)[1] == "e1 [3, 2]: 0.6 0.7 0.8 0.9 0.10 0.11")
        // A slice of a column is one of a stored row.
        #expect(text([try made[0].sliced(axis: 0, 1..<2)]) == ["e0 [1, 2]: 0.1 0.4"])
        #expect(text([try made[0].sliced(axis: 1, 1..<2)]) == ["e0 [3, 1]: 0.3 0.4 0.5"])
        // The other way round: what is joined and stacked, is transposed then.
        let back = #"{"match": "e(\\d)", "to": "w", "stack": {"axis": 0, "by": "{1}"}, "transpose": true}"#
        let whole = try apply(back, [tensor("e1", 1, [3, 2]), tensor("e0", 0, [3, 2])])
        #expect(whole[0].shape == [2, 2, 3] && whole[0].isTransposed)
        #expect(text([try whole[0].sliced(axis: 0, 1..<2)]) == ["w [1, 2, 3]: 1.0 1.1 1.2 1.3 1.4 1.5"])
        let kept = try apply(#"{"match": "w", "to": "x", "transpose": false}"#, [tensor("w", 0, [2, 2])])
        #expect(!kept[0].isTransposed)
    }

    @Test func theFilesInTheDocumentsAreRead() throws {
        let folder = Path(GoldenStore.project + "/Docs/rename")
        let names = try FileSystem.names(in: folder).map { Path.text(of: $0) }.filter {
            $0.hasSuffix(".json")
        }
        #expect(names.count == 6)
        for name in names {
            let file = try File(folder.appending(name), .read)
            _ = try Rename(parsing: file.read(Int(file.status().size), at: 0), path: name)
        }
    }

    @Test(
        arguments: [
            ("{", "it is not JSON: "),
            ("[]", "an object is wanted, with \"about\", \"parameters\", \"rules\""),
            ("{\"rules\": 1}", "\"rules\" is no list"), ("{\"rulez\": []}", "\"rulez\" is not known"),
            (#"{"rules": [{}]}"#, "rule 1: \"match\" is no text"),
            (#"{"rules": [{"match": "(", "to": "a"}]}"#, "rule 1: '(' is not a regular expression"),
            (#"{"rules": [{"match": "a", "to": "a", "drop": true}]}"#, "rule 1: \"drop\" is true where"),
            (#"{"rules": [{"match": "a"}]}"#, "rule 1: \"to\" is no name"),
            (#"{"rules": [{"match": "a", "to": [null]}]}"#, "rule 1: \"to\" is no name"),
            (
                #"{"rules": [{"match": "a", "to": ["a", "b"]}]}"#,
                "\"to\" has 2 names, but there is no \"split\""
            ),
            (#"{"rules": [{"match": "a", "to": "{1"}]}"#, "'{1' has a brace that is not closed"),
            (
                #"{"rules": [{"match": "a", "to": ["a", "b"], "split": {"sizes": [1]}}]}"#,
                "\"sizes\" has 1 numbers"
            ),
            (#"{"rules": [{"match": "a", "to": ["a", "b"], "split": {"along": 1}}]}"#, "\"along\" is 1, but"),
            (#"{"rules": [{"match": "a", "to": ["a", "b"], "split": {"as": ["*", "*"]}}]}"#, "several \"*\""),
            (#"{"rules": [{"match": "a", "to": ["a", "b"], "split": {"as": ["2 +"]}}]}"#, "ends too early"),
            (
                #"{"rules": [{"match": "a", "to": ["a", "b"], "split": {"axis": -1}}]}"#,
                "\"axis\" is no number"
            ),
            (
                #"{"rules": [{"match": "a", "to": "b", "join": {"by": "{1}", "as": [2]}}]}"#,
                "\"as\" has no \"*\""
            ),
            (
                #"{"rules": [{"match": "a", "to": "b", "stack": {"by": "{1}", "as": [2]}}]}"#,
                "\"as\" is not known"
            ),
            (
                #"{"rules": [{"match": "a", "to": "b", "join": {"by": "{1}", "order": ["q", "q"]}}]}"#,
                "a part twice"
            ),
            (
                #"{"rules": [{"match": "a", "to": "b", "transpose": 1}]}"#,
                "\"transpose\" is neither true nor false"
            ),
            (#"{"rules": [{"match": "a", "to": "b", "as": []}]}"#, "\"as\" is no list of numbers"),
            (#"{"parameters": {"a": "b ? c"}, "rules": []}"#, "'? c' is no part of an expression"),
            (#"{"parameters": {"a": {"confug": "b"}}, "rules": []}"#, "\"confug\" is not known"),
        ] as [(String, String)])
    func aFileThatSaysSomethingElseIsRefused(text: String, part: String) {
        #expect {
            try rename(text)
        } throws: { error in
            guard let error = error as? CairnError else { return false }
            return error.code == .usage && error.message.hasPrefix("map.json: ")
                && error.message.contains(part)
                && error.path == "map.json"
        }
    }

    @Test(
        arguments: [
            (#"{"match": "b", "to": "b"}"#, "no rule of map.json matches the tensor a; add one"),
            (
                #"{"match": "a", "to": ["b", "c"], "split": {"axis": 2}}"#,
                "rule 1 of map.json can't be applied to the tensor a: its shape [6, 4] has no axis 2"
            ),
            (
                #"{"match": "a", "to": ["b", "c"], "split": {"as": [4, "*"]}}"#,
                "its shape [6, 4] has 6 along axis 0, which is not 4 x *"
            ),
            (
                #"{"match": "a", "to": ["b", "c"], "split": {"as": ["p", 4294967296, 4294967296]}}"#,
                "which is not 3 x 4294967296 x 4294967296"
            ),
            (#"{"match": "a", "to": ["b", "c"], "split": {"as": ["*", 0]}}"#, "which is not * x 0"),
            (
                #"{"match": "a", "to": ["b", "c", "d", "e"], "split": {}}"#,
                "6 can't be cut into 4 equal parts"
            ),
            (#"{"match": "a", "to": ["b", "c"], "split": {"sizes": [1, 2]}}"#, "6 is not 1 + 2"),
            (#"{"match": "a", "to": ["b", "c"], "split": {"sizes": [7, "*"]}}"#, "6 is not 7 + *"),
            (#"{"match": "a", "to": ["b", "c"], "split": {"sizes": ["q", 2]}}"#, "there is no parameter q"),
            (
                #"{"match": "a", "to": ["b", "c"], "split": {"sizes": ["x", 2]}}"#,
                "the parameter x depends on itself"
            ),
            (#"{"match": "a", "to": ["b", "c"], "split": {"sizes": ["p / 2", 2]}}"#, "p / 2 divides 3 by 2"),
            (#"{"match": "a", "to": ["b", "c"], "split": {"sizes": ["p - 4", 2]}}"#, "p - 4 is negative"),
            (#"{"match": "a", "to": ["b", "c"], "split": {"sizes": ["z", 2]}}"#, "pass it with --config"),
            (#"{"match": "a", "as": [4, "*"], "to": "b"}"#, "which is not 4 x *"),
            (
                #"{"match": "a", "each": ["x"], "to": "{x}", "transpose": true}"#,
                "its shape [4] has no two axes that could change places"
            ),
            (#"{"match": "a", "to": "{1}"}"#, "{1} stands for no group, as the expression has 0"),
            (#"{"match": "a", "to": "{layer}"}"#, "{layer} stands for nothing"),
            (#"{"match": "a", "each": ["x", "y", "z"], "to": "{x}"}"#, "has no axis that counts \"z\""),
            (#"{"match": "a", "each": ["x"], "to": "b"}"#, "it would become b, which a becomes already"),
            (
                #"{"match": "a", "each": ["x"], "to": "b", "stack": {"by": "1"}}"#,
                "b would have the part 1 twice"
            ),
            (#"{"match": "a", "to": "b", "stack": {"by": "1"}}"#, "b would lack the part 0"),
            (
                #"{"match": "a", "to": "b", "join": {"by": "x", "order": ["q", "k"]}}"#,
                "it would be the part x of b, which has q, k"
            ),
            (
                #"{"match": "a", "each": ["x"], "to": "b", "stack": {"by": "{x}", "axis": 2}}"#,
                "its shape [4] has no place for a new axis 2"
            ),
        ] as [(String, String)])
    func whatATensorDoesNotFitIsNamed(rule: String, part: String) {
        let parameters = #"{"p": 3, "x": "y + 1", "y": "x", "z": {"config": "z"}}"#
        #expect {
            try apply(rule, parameters: parameters, [tensor("a", 0, [6, 4])])
        } throws: { error in
            guard let error = error as? CairnError else { return false }
            return error.code == .usage && error.message.contains("tensor a") && error.message.contains(part)
        }
    }

    @Test func whatDoesNotFitTogetherIsNamed() {
        let rule = #"{"match": "(a|b)", "to": "c", "join": {"axis": 0, "by": "{1}", "order": ["a", "b"]}}"#
        for other in [tensor("b", 1, [2, 3]), tensor("b", 1, [6, 4], dtype: "BF16")] {
            #expect {
                try apply(rule, [tensor("a", 0, [6, 4]), other])
            } throws: {
                "\($0)".contains("F32 [6, 4] and \(other.dtype) \(other.shape.text) can't be joined there")
            }
        }
        // Two rules that make the same.
        let two = #"{"match": "a", "to": "c"}, {"match": "b", "to": "c"}"#
        #expect {
            try apply(two, [tensor("a", 0, [1]), tensor("b", 0, [1])])
        } throws: {
            "\($0)".contains("the tensor b: it would become c, which a becomes already")
        }
    }

    @Test func aHundredThousandTensorsAreRenamedInSeconds() throws {
        // Megatron's map on 900 stacked layers' worth of single names: as many names and rules as any model has.
        let folder = GoldenStore.project + "/Docs/rename/megatron-to-qwen3-moe.json"
        let file = try File(Path(folder), .read)
        let rename = try Rename(parsing: file.read(Int(file.status().size), at: 0), path: folder)
        let tensors = (0..<100).flatMap { layer in
            (0..<500).flatMap { expert in
                [1, 2].map { number in
                    tensor(
                        "decoder.layers.\(layer).mlp.experts.linear_fc\(number).weight\(expert)", 0, [8, 4])
                }
            }
        }
        let start = Clock.monotonic
        let renamed = try Renaming(rename, config: nil).apply(tensors.map { ($0.name, $0) }) { $0 }
        #expect(renamed.count == 150_000)
        #expect(Clock.monotonic - start < 60)
    }
}

@Suite struct ExpressionTests {
    @Test(arguments: [
        ("7", 7), ("a", 12), ("a / b + 2", 5), ("2 + a/b", 5), ("a - b - 1", 7), ("a / (b - 1) * 2", 8),
        ("((a))", 12), ("  a  *b ", 48), ("a_1", 3), ("2 * 3 + 4 * 5", 26),
    ])
    func numbersAreComputedAsWritten(text: String, value: UInt64) throws {
        let parameters: [String: UInt64] = ["a": 12, "b": 4, "a_1": 3]
        #expect(try Expression(text).value { try #require(parameters[$0]) } == value)
    }

    @Test(arguments: ["", "2 +", "(2", "2)", "2 3", "*", "2 ** 3", "é", "99999999999999999999", "1a", "a.b"])
    func whatIsNoExpressionIsRefused(text: String) {
        #expect(throws: Expression.Fault.self) { try Expression(text) }
    }

    @Test func manyParenthesesAreRefused() {
        let text = String(repeating: "(", count: 100_000) + "1"
        #expect(throws: Expression.Fault.self) { try Expression(text) }
    }

    @Test(arguments: ["1 / 0", "3 / 2", "1 - 2", "4294967296 * 4294967296", "18446744073709551615 + 1"])
    func whatIsNoWholeNumberIsRefused(text: String) throws {
        let expression = try Expression(text)
        #expect(throws: Expression.Fault.self) { try expression.value { _ in 0 } }
    }
}
