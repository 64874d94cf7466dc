public import ChunkStore

/// What people and frameworks wrote beside an iteration: names, and values that are JSON texts.
/// (Docs/format.md 6)
public struct Metadata: Sendable, Equatable {
    public var values: [String: String]

    public init(_ values: [String: String] = [:]) { self.values = values }

    /// Empty where there are no values, else a map.
    public func encoded() -> [UInt8] {
        if values.isEmpty { return [] }
        var writer = ByteWriter()
        writer.map(values)
        return writer.bytes
    }

    /// Accepts exactly what `encoded` writes. That the values are JSON is up to whoever shows them.
    public init(decoding bytes: [UInt8]) throws(FormatError) {
        values = [:]
        if bytes.isEmpty { return }
        var reader = ByteReader(bytes)
        values = try reader.strings()
        try reader.expectEnd()
        guard !values.isEmpty else { throw FormatError("holds a map of nothing") }
        try values.requireDistinctKeys(in: bytes[...])
    }

    public static func == (a: Metadata, b: Metadata) -> Bool { a.encoded() == b.encoded() }
}
