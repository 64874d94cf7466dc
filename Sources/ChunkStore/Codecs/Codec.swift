/// How a chunk's bytes are encoded in a record. (Docs/format.md 3)
public struct Codec: RawRepresentable, Hashable, Sendable {
    public let rawValue: UInt8
    public init(rawValue: UInt8) { self.rawValue = rawValue }

    /// The payload is the chunk.
    public static let raw = Codec(rawValue: 0)
    /// The numbers' bytes by their place in the number, each place compressed by itself.
    public static let planes = Codec(rawValue: 1)
    /// The differences to the numbers of another chunk, its base, as planes.
    public static let delta = Codec(rawValue: 128)

    /// Whether the payload says how the chunk differs from another, its base.
    public var hasBase: Bool { rawValue >= 128 }

    public var isKnown: Bool { self == .raw || self == .planes || self == .delta }

    /// The name for people, or the number of one that is not known.
    public var name: String {
        switch self {
        case .raw: "raw"
        case .planes: "planes"
        case .delta: "delta"
        default: "codec \(rawValue)"
        }
    }
}
