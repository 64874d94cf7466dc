/// Why a file can't be written in the format that was asked for.
public struct WritingError: Error, Sendable, Equatable, CustomStringConvertible {
    /// What kind of failure it is. Open: later versions add codes.
    public struct Code: RawRepresentable, Hashable, Sendable {
        public let rawValue: String
        public init(rawValue: String) { self.rawValue = rawValue }

        /// The format has no such element type.
        public static let unsupportedDType = Code(rawValue: "unsupported-dtype")
        /// A shape is beyond 64 bits, is not whole bytes, or is not what its pieces make up.
        public static let invalidShape = Code(rawValue: "invalid-shape")
        /// A name is empty, too long or not allowed, or two are the same.
        public static let invalidName = Code(rawValue: "invalid-name")
        /// What is to be written names something that was not given, or nests too deeply.
        public static let invalidValue = Code(rawValue: "invalid-value")
        /// A dimension does not divide among the devices, or a mesh or tensor map contradicts itself.
        public static let invalidLayout = Code(rawValue: "invalid-layout")
        /// It is larger than the format or this writer allows.
        public static let tooLarge = Code(rawValue: "too-large")
    }

    public let code: Code
    /// One sentence for people.
    public let message: String

    public init(_ code: Code, _ message: String) {
        self.code = code
        self.message = message
    }

    public var description: String { message }
}
