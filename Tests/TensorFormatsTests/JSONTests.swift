import Testing

@testable import TensorFormats

struct JSONTests {
    @Test func `a document is written as Python writes it`() throws {
        let source = try Fixtures.json("json/source.json", allowNonFinite: true)
        #expect(try source.serialized(.python) == Fixtures.bytes("json/python-sorted.json"))
        let compact = JSON.Style(asciiOnly: true, allowNonFinite: true)
        #expect(try source.serialized(compact) == Fixtures.bytes("json/python-compact-ascii.json"))
    }

    @Test func `a document reads back as it was`() throws {
        var source = try Fixtures.json("json/source.json", allowNonFinite: true)
        // NaN differs from itself.
        if case .object(let members) = source { source = .object(members.filter { $0.key != "nonfinite" }) }
        #expect(try JSON(parsing: source.serialized()) == source)
        #expect(try JSON(parsing: source.serialized(.init(indent: 4, asciiOnly: true))) == source)
    }

    @Test(arguments: [
        ("0", JSON.integer(0)), ("-1", .integer(-1)), ("9223372036854775807", .integer(.max)),
        ("-9223372036854775808", .integer(.min)), ("9223372036854775808", .unsigned(1 << 63)),
        ("18446744073709551615", .unsigned(.max)), ("18446744073709551616", .number(0x1p64)),
        ("-9223372036854775809", .number(-0x1p63)), ("1.0", .number(1)), ("1e2", .number(100)),
        ("0e999", .number(0)), ("5e-400", .number(0)), (" [ ] ", .array([])), ("{}", .object([])),
        (#""\ud83d\uDE00""#, .string("😀")), (#""\u0000\/""#, .string("\0/")), ("true", .bool(true)),
        ("[null,false]", .array([.null, .bool(false)])),
        (#"{"a":1,"a":2}"#, .object([.init("a", .integer(1)), .init("a", .integer(2))])),
    ])
    func `values`(_ text: String, _ value: JSON) throws {
        #expect(try JSON(parsing: Array(text.utf8)) == value)
    }

    @Test(arguments: [
        ("", 0), ("  ", 2), ("nul", 0), ("[1,]", 3), ("{\"a\":1,}", 7), ("{a:1}", 1), ("[1 2]", 3), ("01", 2),
        ("-", 1), ("-a", 1), ("1.", 2), ("1e", 2), (".5", 0), ("+1", 0), ("1 2", 2), ("\"a", 2),
        ("\"\u{1}\"", 1),
        (#""\x""#, 1), (#""\u12""#, 1), (#""\ud800""#, 1), (#""\udc00\ud800""#, 1), ("{\"a\"}", 4), ("[", 1),
        ("NaN", 0), ("-Infinity", 1), ("1e999", 0), ("\u{FEFF}1", 0), ("'a'", 0), ("\u{C}1", 0), ("\"\\", 1),
    ])
    func `mistakes are found at their byte`(_ text: String, _ offset: Int) {
        let error = #expect(throws: JSONError.self) { try JSON(parsing: Array(text.utf8)) }
        #expect(error?.offset == offset, "\(error?.description ?? "")")
    }

    @Test func `text that is not UTF-8 is rejected at its byte`() {
        for bad: [UInt8] in [
            [0xFF], [0xC0, 0x80], [0xED, 0xA0, 0x80], [0xF4, 0x90, 0x80, 0x80], [0xE2, 0x82],
        ] {
            let error = #expect(throws: JSONError.self) { try JSON(parsing: [0x22, 0x61] + bad + [0x22]) }
            #expect(error?.offset == 2)
        }
    }

    @Test func `nesting ends at 127`() throws {
        func nested(_ depth: Int) -> [UInt8] {
            Array((String(repeating: "[", count: depth) + String(repeating: "]", count: depth)).utf8)
        }
        _ = try JSON(parsing: nested(127))
        #expect(throws: JSONError.self) { try JSON(parsing: nested(128)) }
        #expect(throws: JSONError.self) { try JSON(parsing: nested(1_000_000)) }
        // Depth is given back: many beside each other are fine.
        _ = try JSON(parsing: Array(("[" + String(repeating: "[{}],", count: 500) + "0]").utf8))
    }

    @Test func `numbers that are not finite are taken only when asked for`() throws {
        let text = Array("[NaN,Infinity,-Infinity,1e999,-1e999]".utf8)
        #expect(throws: JSONError.self) { try JSON(parsing: text) }
        let values = try #require(try JSON(parsing: text, allowNonFinite: true).array)
        #expect(values[0].double?.isNaN == true)
        #expect(values[1...].map(\.double) == [.infinity, -.infinity, .infinity, -.infinity])
        #expect(
            String(decoding: JSON.array(values).serialized(), as: UTF8.self) == "[null,null,null,null,null]")
        #expect(throws: JSONError.self) { try JSON(parsing: Array("-NaN".utf8), allowNonFinite: true) }
    }

    @Test func `names that Unicode calls equal stay different`() throws {
        let value = try JSON(parsing: Array(#"{"\u00e9":1,"e\u0301":2,"\u212a":3,"K":4,"\u00e9":5}"#.utf8))
        #expect(value["\u{E9}"] == .integer(5))
        #expect(value["e\u{301}"] == .integer(2))
        #expect(value["\u{212A}"] == .integer(3))
        #expect(JSON.string("\u{E9}") != .string("e\u{301}"))
        #expect(value["x"] == nil && JSON.null["x"] == nil)
    }

    @Test func `accessors convert only without loss of meaning`() {
        #expect(JSON.number(3).int == 3 && JSON.number(3.5).int == nil && JSON.number(1e300).int == nil)
        #expect(JSON.number(.nan).int == nil && JSON.unsigned(.max).int == nil)
        #expect(JSON.unsigned(.max).uint64 == .max && JSON.integer(-1).uint64 == nil)
        #expect(JSON.integer(2).double == 2 && JSON.string("2").double == nil)
        #expect(JSON(UInt64.max) == .unsigned(.max) && JSON(UInt64(7)) == .integer(7))
    }
}
