import Testing

@testable import TensorFormats

/// The table of reference/safetensors_acceptance.txt and more, each file judged by safetensors 0.8.0 itself.
struct SafetensorsAcceptanceTests {
    struct Case: CustomTestStringConvertible, Sendable {
        let title: String
        let file: String
        let verdict: String
        let reads: JSON?
        var testDescription: String { "\(verdict) \(title)" }
    }

    static let cases: [Case] = try! Fixtures.json("acceptance/verdicts.json").array!.map {
        Case(
            title: $0["title"]!.stringValue!, file: $0["file"]!.stringValue!,
            verdict: $0["verdict"]!.stringValue!,
            reads: $0["reads"])
    }

    @Test(arguments: cases)
    func `takes and rejects what the reference takes and rejects`(_ example: Case) throws {
        let bytes = try Fixtures.bytes("acceptance/\(example.file)")
        switch example.verdict {
        case "ACCEPT":
            let header = try SafetensorsHeader(file: bytes)
            let reads = try #require(example.reads)
            let expected = try #require(reads["tensors"]?.members)
            #expect(header.tensors.count == expected.count)
            for tensor in header.tensors {
                let info = try #require(reads["tensors"]?[tensor.name]?.array)
                #expect(info[0].stringValue == tensor.dtype.name)
                #expect(info[1].array?.map(\.uint64) == tensor.shape.map(Optional.some))
            }
            #expect(header.metadata?.count == reads["metadata"]?.members?.count)
            for (key, value) in header.metadata ?? [] {
                #expect(reads["metadata"]?[key]?.stringValue == value)
            }
        case "DUPLICATE":
            let error = #expect(throws: TensorFileError.self) { try SafetensorsHeader(file: bytes) }
            #expect(error?.code == .duplicateName)
        default:
            let error = #expect(throws: TensorFileError.self) { try SafetensorsHeader(file: bytes) }
            #expect(error?.code != .duplicateName)
            #expect(error?.message.hasSuffix(".") == true)
        }
    }

    @Test func `the table is complete`() {
        #expect(Self.cases.count >= 70)
        #expect(
            Self.cases.contains { $0.verdict == "ACCEPT" } && Self.cases.contains { $0.verdict == "REJECT" })
    }

    @Test(arguments: [
        (safetensors("{}", data: 1), TensorFileError.Code.wrongFileSize),
        ([1, 2, 3], .truncatedHeader),
        ([9, 0, 0, 0, 0, 0, 0, 0, 0x7B, 0x7D], .truncatedHeader),
        ([1, 0xE1, 0xF5, 5, 0, 0, 0, 0], .headerTooLarge),
        (safetensors("{", data: 0), .invalidHeader),
        (safetensors(#"{"a":{"dtype":"F33","shape":[2],"data_offsets":[0,8]}}"#), .invalidHeader),
        (safetensors(#"{"a":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}}"#), .invalidExtent),
        (safetensors(#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}"#), .invalidExtent),
        (safetensors(#"{"a":{"dtype":"F4","shape":[15],"data_offsets":[0,7]}}"#, data: 7), .invalidExtent),
    ])
    func `each kind of rejection has its code`(_ file: [UInt8], _ code: TensorFileError.Code) {
        #expect(#expect(throws: TensorFileError.self) { try SafetensorsHeader(file: file) }?.code == code)
    }

    @Test func `empty tensors at one place keep the order of the header`() throws {
        let names = (0..<50).map { "t\(($0 * 37) % 50)" }
        let entries = names.map { #""\#($0)":{"dtype":"U8","shape":[0],"data_offsets":[4,4]}"# }
        let last = #""first":{"dtype":"F32","shape":[],"data_offsets":[0,4]}"#
        let header = try SafetensorsHeader(
            file: safetensors("{" + (entries + [last]).joined(separator: ",") + "}", data: 4))
        #expect(header.tensors.map(\.name) == ["first"] + names)
    }

    @Test func `of a file only the header has to be read`() throws {
        let file = safetensors(#"{"a":{"dtype":"F64","shape":[1000],"data_offsets":[0,8000]}}"#, data: 0)
        let length = try SafetensorsHeader.headerLength(
            prefix: Array(file[..<8]), fileSize: 8000 + UInt64(file.count))
        #expect(length == file.count)
        let header = try SafetensorsHeader(parsing: file, fileSize: 8000 + UInt64(file.count))
        #expect(header.headerLength == length && header.dataLength == 8000)
        #expect(throws: TensorFileError.self) {
            try SafetensorsHeader(parsing: Array(file.dropLast()), fileSize: 8000 + UInt64(file.count))
        }
    }

    @Test func `an error names the tensor and the byte`() {
        let hole = #expect(throws: TensorFileError.self) {
            try SafetensorsHeader(
                file: safetensors(#"{"a\n":{"dtype":"F32","shape":[2],"data_offsets":[8,16]}}"#, data: 16))
        }
        #expect(
            hole?.message == #"The tensor "a\n" has bytes 8 to 16 of the data, but must begin at byte 0, "#
                + "where the tensor before it ends.")
        let comma = #expect(throws: TensorFileError.self) {
            try SafetensorsHeader(file: safetensors("{,}", data: 0))
        }
        #expect(comma?.message == "The header is not valid: expected a key in quotes, at byte 9.")
    }
}
