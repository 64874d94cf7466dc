/// Why a file is not taken as one of its format whose tensors are known: MindSpore, GGUF, NumPy, or a zip file.
///
/// A caller that stores files keeps such a file as plain bytes, and says `message`.
public struct TensorFileError: Error, Sendable, Equatable, CustomStringConvertible {
    /// What kind of failure it is. Open: later versions add codes.
    public struct Code: RawRepresentable, Hashable, Sendable {
        public let rawValue: String
        public init(rawValue: String) { self.rawValue = rawValue }

        /// It does not begin, or a zip file end, as a file of the format does.
        public static let otherFormat = Code(rawValue: "other-format")
        /// It contradicts itself, or was cut off.
        public static let damaged = Code(rawValue: "damaged")
        /// The bytes of its tensors do not stand in it as they are.
        public static let compressed = Code(rawValue: "compressed")
        public static let encrypted = Code(rawValue: "encrypted")
        /// The numbers are big endian.
        public static let byteOrder = Code(rawValue: "byte-order")
        /// A version, a type or an arrangement that is not known here.
        public static let unsupported = Code(rawValue: "unsupported")
        /// A limit of this reader is passed.
        public static let tooLarge = Code(rawValue: "too-large")
    }

    public let code: Code
    /// One sentence for people.
    public let message: String

    public init(_ code: Code, _ message: String) {
        self.code = code
        self.message = message
    }

    /// What is wrong with a zip file.
    static func archive(_ what: String) -> TensorFileError {
        TensorFileError(
            .damaged, "The zip file is damaged, or not of the simple kind that is read here: \(what).")
    }

    public var description: String { message }
}
