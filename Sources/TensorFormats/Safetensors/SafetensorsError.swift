/// Why a file is not taken as safetensors.
///
/// A caller that stores files keeps such a file as plain bytes, and says `message`.
public struct SafetensorsError: Error, Sendable, Equatable, CustomStringConvertible {
    /// What kind of failure it is. Open: later versions add codes.
    public struct Code: RawRepresentable, Hashable, Sendable {
        public let rawValue: String
        public init(rawValue: String) { self.rawValue = rawValue }

        /// The file is shorter than its own first eight bytes, or than the header they announce.
        public static let truncatedHeader = Code(rawValue: "truncated-header")
        /// The header is longer than 100,000,000 bytes.
        public static let headerTooLarge = Code(rawValue: "header-too-large")
        /// The header is not UTF-8, not JSON, or an entry has not the fields, types or numbers of a tensor.
        public static let invalidHeader = Code(rawValue: "invalid-header")
        /// Two tensors have one name. The reference takes the last one in silence; we do not.
        public static let duplicateName = Code(rawValue: "duplicate-name")
        /// The tensors leave a hole, overlap, or are not as long as type and shape say.
        public static let invalidExtent = Code(rawValue: "invalid-extent")
        /// The data is longer or shorter than the tensors.
        public static let wrongFileSize = Code(rawValue: "wrong-file-size")
    }

    public let code: Code
    /// One sentence for people.
    public let message: String

    public init(_ code: Code, _ message: String) {
        self.code = code
        self.message = message
    }

    init(_ error: JSONError) {
        self.init(.invalidHeader, "The header is not valid: \(error).")
    }

    public var description: String { message }
}
