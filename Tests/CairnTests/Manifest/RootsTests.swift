import Cairn
import ChunkStore
import Testing

struct RootsTests {
    private struct NoSchema: Error {}

    static func entry(_ path: String, _ kind: Roots.Kind = .folder, mode: UInt16 = 0o755) -> Roots.Entry {
        Roots.Entry(path: [UInt8](path.utf8), kind: kind, mode: mode, mtime: -1, nanoseconds: 999_999_999)
    }

    static let roots = Roots([
        entry(
            "model.safetensors", .file(.split(schema: blob(50), blobs: [id(2), .zero, id(3)])), mode: 0o600),
        entry(""), entry("a/b"), entry("a"), entry("a-b", .file(.opaque(blob(7)))),
        entry("a/empty", .file(.opaque(.empty))), entry("last.ckpt", .link(target: [UInt8]("../é".utf8))),
        Roots.Entry(path: [0xFF, 0x0A], kind: .folder, mode: 0o7777, mtime: .min, nanoseconds: 0),
    ])

    static func schema(_ blob: BlobRef) throws -> Schema { SchemaTests.schema }

    @Test("has exactly the bytes that the format page describes")
    func golden() throws {
        let time: [UInt8] = [UInt8](repeating: 0xFF, count: 8) + [0xFF, 0x93, 0xEB, 0xDC, 0x03]
        var expected: [UInt8] = "CRT1".utf8 + [4]
        expected += [0, 1, 0xED, 0x03] + time  // the folder itself, 0755
        expected += [1] + "f".utf8 + [0, 0xA4, 0x03] + time + [0, 7] + id(1).bytes  // an opaque file, 0644
        expected += [1] + "l".utf8 + [2, 0xFF, 0x03] + time + [1] + "f".utf8
        expected +=
            [1] + "s".utf8 + [0, 0x80, 0x03] + time + [1, 50] + id(1).bytes + id(2).bytes + id(3).bytes
        let roots = Roots([
            Self.entry("s", .file(.split(schema: blob(50), blobs: [id(2), .zero, id(3)])), mode: 0o600),
            Self.entry("l", .link(target: [UInt8]("f".utf8)), mode: 0o777),
            Self.entry("f", .file(.opaque(blob(7))), mode: 0o644), Self.entry(""),
        ])
        #expect(roots.encoded() == expected)
        #expect(try Roots(decoding: expected, schema: Self.schema) == roots)
    }

    @Test("decodes to what was encoded, and asks for the schema of each split file")
    func roundTrip() throws {
        var asked: [BlobRef] = []
        let again = try Roots(decoding: Self.roots.encoded()) { blob in
            asked.append(blob)
            return SchemaTests.schema
        }
        #expect(again == Self.roots)
        #expect(asked == [blob(50)])
        #expect(again[[UInt8]("a-b".utf8)]?.kind == .file(.opaque(blob(7))))
        #expect(again[[0xFF, 0x0A]]?.text == "\\xff\\n")
        #expect(again[[UInt8]("nothing".utf8)] == nil)
        #expect(Roots([])[[]] == nil)
    }

    @Test("passes on what the schema's reader throws")
    func schemaFails() {
        #expect(throws: NoSchema.self) {
            try Roots(decoding: Self.roots.encoded()) { _ in throw NoSchema() }
        }
    }

    @Test("is refused or stands for itself, whatever byte changes")
    func mutations() {
        expectCanonical(Self.roots.encoded()) { try Roots(decoding: $0, schema: Self.schema).encoded() }
    }

    @Test(
        "refuses paths that could leave the folder",
        arguments: [
            "/", "/a", "a/", "a//b", ".", "..", "a/..", "../a", "a/./b", "a/../b", "./a", "a\0b", "a/\0",
            "/..",
        ])
    func paths(path: String) {
        #expect(throws: FormatError.self) { try Roots([Self.entry(path)]).check() }
    }

    @Test(
        "takes paths that only look dangerous",
        arguments: ["...", "..a", "a..", ".a/b", " ", "\n", "a\\..\\b"])
    func soundPaths(path: String) throws {
        try Roots([Self.entry(path)]).check()
    }

    @Test(
        "refuses an entry below a file or a link, however far above that is",
        arguments: [Roots.Kind.link(target: [46]), .file(.opaque(.empty))], ["a", "a/b", "a/b/c"])
    func leaves(kind: Roots.Kind, leaf: String) throws {
        let roots = Roots([
            Self.entry(leaf, kind), Self.entry("a-b"), Self.entry("a.b"), Self.entry("a/b/c/d"),
        ])
        #expect(throws: FormatError.self) { try roots.check() }
        try Roots([Self.entry(leaf + "x", kind), Self.entry("a/b/c/d")]).check()
    }

    @Test("refuses what no Linux file has")
    func entries() {
        var late = Self.entry("a")
        late.nanoseconds = 1_000_000_000
        let unsound = [
            late, Self.entry("a", mode: 0o10000), Self.entry("", .file(.opaque(.empty))),
            Self.entry("", .link(target: [46])), Self.entry("a", .link(target: [])),
            Self.entry("a", .link(target: [97, 0])),
            Self.entry("a", .file(.split(schema: .empty, blobs: []))),
        ]
        for entry in unsound {
            #expect(throws: FormatError.self, "\(entry)") { try Roots([entry]).check() }
        }
        #expect(throws: FormatError.self) { try Roots([Self.entry("a"), Self.entry("a")]).check() }
        var unsorted = Roots([Self.entry("a"), Self.entry("b")])
        unsorted.entries.reverse()
        #expect(throws: FormatError.self) { try unsorted.check() }
    }
}
