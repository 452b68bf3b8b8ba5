import org.apache.kafka.common.errors.RetriableException;
import org.apache.kafka.common.message.ApiMessageType;
import org.apache.kafka.common.message.ApiMessageType.ListenerType;
import org.apache.kafka.common.protocol.Errors;

/**
 * With the argument "errors", a line "code name retriable" for each error; with "apis", a line "key name version", with
 * the versions of both headers, for each version of each API.
 */
public class Facts {
    public static void main(String[] arguments) {
        switch (arguments[0]) {
            case "errors" -> errors();
            case "apis" -> apis();
            default -> throw new IllegalArgumentException(arguments[0]);
        }
    }

    private static void errors() {
        for (Errors error : Errors.values()) {
            boolean retriable = error.exception() instanceof RetriableException;
            System.out.println(error.code() + " " + error.name() + " " + retriable);
        }
    }

    private static void apis() {
        for (ApiMessageType api : ApiMessageType.values()) {
            boolean broker = api.listeners().contains(ListenerType.BROKER);
            boolean controller = api.listeners().contains(ListenerType.CONTROLLER);
            for (short version = api.lowestSupportedVersion(); version <= api.highestSupportedVersion(true); version++) {
                String headers = api.requestHeaderVersion(version) + " " + api.responseHeaderVersion(version);
                System.out.println(api.apiKey() + " " + api.name + " " + version + " " + headers + " " + broker + " " + controller);
            }
        }
    }
}
