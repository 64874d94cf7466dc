import Testing

@testable import TensorFormats

/// Pickles of Python's (tools/python/tree_fixtures.py), seen as what Python sees.
struct TorchTreeTests {
    private static let expected = try! Fixtures.json("trees/expected.json")
    private static let values = expected["values"]!.members!

    private func tree(_ file: String) throws -> TorchTree {
        let bytes = try Fixtures.bytes("trees/\(file)")
        return try file.hasSuffix(".pt") ? TorchTree(pyTorch: bytes) : TorchTree(pickle: bytes)
    }

    @Test(arguments: (0...5).map { "values-\($0).pkl" } + ["values.pt"])
    func `values of every kind are what Python pickled`(_ file: String) throws {
        let root = try tree(file).root
        let missing = Self.expected["missing"]?[file]?.array?.compactMap(\.stringValue) ?? []
        #expect(root.kind == .dictionary)
        #expect(root.items?.map { $0.key.string } == Self.values.map(\.key).filter { !missing.contains($0) })
        for (name, value) in Self.values.map({ ($0.key, $0.value) }) where !missing.contains(name) {
            #expect(try view(#require(root[name])) == value, "\(name)")
        }
    }

    @Test func `there are values of every kind`() throws {
        var kinds: Set<TorchTree.Kind> = []
        func visit(_ value: TorchTree.Value) {
            kinds.insert(value.kind)
            for one in (value.elements ?? []) + (value.items ?? []).flatMap({ [$0.key, $0.value] }) {
                visit(one)
            }
        }
        visit(try tree("values.pt").root)
        #expect(kinds.count == 13 && !kinds.contains(.tensor) && !kinds.contains(.storage))
        #expect(Self.values.count > 25)
    }

    @Test(arguments: ["values-2.pkl", "values-5.pkl"])
    func `attributes are found by name, and in a named tuple by place`(_ file: String) throws {
        let root = try tree(file).root
        let address = try #require(root["dataclass"])
        #expect(address.attribute("numel")?.int == 5 && address.attribute("start", position: 1)?.int == 7)
        #expect(address.attribute("end") == nil)
        let point = try #require(root["point"])
        #expect(point.attribute("y", position: 1)?.string == "two")
        #expect(point.attribute("y") == nil && point.attribute("z", position: 2) == nil)
        #expect(point.attribute("z", position: -1) == nil)
        #expect(root["mixed"]?.attribute("more")?.string == "dictionary")
        #expect(root["mixed"]?.attribute("sizes")?.elements?.map(\.int) == [2])
        #expect(root["namespace"]?.attribute("nested")?.attribute("a")?.int == 1)
        #expect(root["ordered"]?.attribute("_metadata")?[""]?["version"]?.int == 1)
        #expect(root["ordered"]?.className == "collections.OrderedDict")
        #expect(root["size"]?.elements?.last?.dimensions == [2, 3])
        #expect(root["enumerations"]?.elements?.first?.arguments.first?.string == "red")
        #expect(root["globals"]?.elements?.first?.dtype == "BF16")
        #expect(root["globals"]?.elements?.last?.dtype == nil)
    }

    @Test func `arguments by name stand apart`() throws {
        let named = try #require(try tree("values-5.pkl").root["named"])
        #expect(named.arguments.map(\.int) == [1])
        #expect(named.namedArguments?["second"]?.string == "two")
        #expect(try tree("values-5.pkl").root["dataclass"]?.namedArguments == nil)
    }

    @Test func `what a value is not it does not give`() throws {
        let root = try tree("values-4.pkl").root
        let text = try #require(root["texts"]?.elements?[1])
        #expect(text.string == "plain" && text.int == nil && text.double == nil && text.bool == nil)
        #expect(text.bytes == nil && text.elements == nil && text.items == nil && text["plain"] == nil)
        #expect(text.className == nil && text.arguments.isEmpty && text.state == nil && text.tensor == nil)
        #expect(root["true"]?.int == nil && root["true"]?.bool == true && root["true"]?.isNone == false)
        #expect(root["none"]?.isNone == true && root["none"]?.attribute("a") == nil)
        #expect(root["numbers"]?.elements?[1].double == 1 && root["floats"]?.elements?[2].int == nil)
        #expect(root["lists"]?["a"] == nil && root["lists"]?.items == nil && root["lists"]?.dimensions == nil)
        #expect(root["bytes"]?.elements?[0].string == nil)
        #expect(root["absent"] == nil && root[7] == nil)
        #expect(root["dictionaries"]?[1]?.string == "integer" && root["dictionaries"]?["1"]?.string == "text")
        #expect(root["dictionaries"]?[-3]?.kind == .dictionary)
    }

    // MARK: Keys

    private func pickled(_ parts: String...) throws -> TorchTree {
        try TorchTree(pickle: parts.flatMap { Array($0.utf8) })
    }

    @Test func `of equal keys the first has the place and the last the value`() throws {
        let root = try pickled("(dVa\nI1\nsVb\nI2\nsVa\nI3\nsI1\nI4\nsI01\nI5\nsF1.0\nI6\ns.").root
        #expect(root["a"]?.int == 3 && root["b"]?.int == 2 && root[1]?.int == 6)
        #expect(root.items?.map { $0.key.string ?? "1" } == ["a", "b", "1"])
        #expect(root.items?.map { $0.value.int } == [3, 2, 6])
        // The same of an object that is a dictionary, whose first items stand among its arguments.
        let counter = try pickled("ccollections\nCounter\n((dVa\nI1\nsVb\nI2\nstRVa\nI3\ns.").root
        #expect(counter["a"]?.int == 3 && counter["b"]?.int == 2)
        #expect(counter.items?.map { $0.value.int } == [3, 2])
        // As Python 2 has it: a list of pairs.
        let ordered = try pickled("ccollections\nOrderedDict\n((l(lVa\naI1\naa(lVb\naI2\naatR.").root
        #expect(ordered["b"]?.int == 2 && ordered.items?.map { $0.value.int } == [1, 2])
    }

    @Test func `NaN is equal to nothing but itself, and neither is what no dictionary can have as a key`()
        throws
    {
        let root = try pickled("(dFnan\np0\nI1\nsFnan\nI2\nsg0\nI3\ns(lp1\nI4\ns(lI5\nsg1\nI6\ns.").root
        #expect(root.items?.map { $0.value.int } == [3, 2, 6, 5])
    }

    @Test func `texts are equal byte for byte`() throws {
        // An e with an accent, and the accent as a character of its own.
        let root = try pickled("}(X\u{2}\0\0\0\u{e9}K\u{1}X\u{3}\0\0\0e\u{301}K\u{2}u.").root
        #expect(root["\u{e9}"]?.int == 1 && root["e\u{301}"]?.int == 2 && root.items?.count == 2)
    }

    @Test func `a name that would run something is only a name`() throws {
        let root = try pickled("cos\nsystem\n(S'rm -rf /'\ntR.").root
        #expect(root.kind == .object && root.className == "os.system")
        #expect(root.arguments.map(\.string) == ["rm -rf /"])
        let nested = try pickled("(dVstep\nI5\nsVevil\ncos\nsystem\n(Vtouch x\ntRs.").root
        #expect(nested["step"]?.int == 5 && nested["evil"]?.className == "os.system")
    }

    @Test func `what is built in an unknown way is an object`() throws {
        // Bytes of bytes of bytes, an unknown encoding, characters beyond it, a set of no list.
        for text in [
            "c_codecs\nencode\n((Va\nVlatin1\nttR.", "c_codecs\nencode\n(Va\nVutf8\ntR.",
            "c_codecs\nencode\n(V\\u0100\nVlatin1\ntR.", "c_codecs\nencode\n(Va\ntR.",
            "c__builtin__\nbytearray\n(I5\ntR.",
        ] {
            let root = try pickled(text).root
            #expect(root.kind == .object && root.bytes == nil, "\(text)")
        }
        let set = try pickled("c__builtin__\nset\n(I5\ntR.").root
        #expect(set.kind == .set && set.elements == nil)
        let scalar = try pickled("cnumpy.core.multiarray\nscalar\n(I5\nI5\ntR.").root
        #expect(scalar.kind == .object && scalar.int == nil && scalar.double == nil && scalar.bool == nil)
    }
}

/// What tree_fixtures.py shows of a value.
private func view(_ value: TorchTree.Value) throws -> JSON {
    func list(_ sign: String, _ items: [JSON]) -> JSON { .array([.string("!" + sign)] + items) }
    func views(_ values: [TorchTree.Value]?) throws -> [JSON] { try #require(values).map(view) }
    func sorted(_ values: [JSON]) -> [JSON] { values.sorted { "\($0)" < "\($1)" } }
    switch value.kind {
    case .none: return .null
    case .bool: return value.bool.map { .bool($0) } ?? .string("?")
    case .integer: return list("int", [.string(value.int.map { String($0) } ?? "big")])
    case .float:
        let digits = String(try #require(value.double).bitPattern, radix: 16)
        return list("float", [.string(String(repeating: "0", count: 16 - digits.count) + digits)])
    case .text: return .string(try #require(value.string))
    case .bytes: return list("bytes", [.string(hex(try #require(value.bytes)))])
    case .list: return list("list", try views(value.elements))
    case .tuple: return list("tuple", try views(value.elements))
    case .set: return list("set", sorted(try views(value.elements)))
    case .frozenSet: return list("frozenset", sorted(try views(value.elements)))
    case .dictionary:
        return list("dict", try #require(value.items).map { .array([try view($0.key), try view($0.value)]) })
    case .global: return list("global", [.string(try #require(value.globalName))])
    case .object:
        return list(
            "object",
            [
                .string(value.className ?? "?"), .array(try views(value.arguments)),
                .array(try value.attributes.flatMap { [try view($0.key), try view($0.value)] }),
                .array(try views(value.elements)),
                .array(try #require(value.items).flatMap { [try view($0.key), try view($0.value)] }),
            ])
    case .storage, .tensor: return .string("?")
    }
}

/// In lower case.
func hex(_ bytes: some Sequence<UInt8>) -> String {
    let digits = Array("0123456789abcdef".utf8)
    return String(
        decoding: bytes.flatMap { [digits[Int($0 >> 4)], digits[Int($0 & 15)]] }, as: UTF8.self)
}

extension TorchTree {
    /// Of a whole file in memory. A range that is not in it would be a trap.
    init(pyTorch bytes: [UInt8]) throws {
        try self.init(pyTorch: UInt64(bytes.count)) { Array(bytes[Int($0.lowerBound)..<Int($0.upperBound)]) }
    }
}
