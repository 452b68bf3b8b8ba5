import java.util.Map;
import java.util.Set;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.MemberToRemove;
import org.apache.kafka.clients.admin.RemoveMembersFromConsumerGroupOptions;

/** Takes a static member out of its group: {@code BOOTSTRAP GROUP INSTANCE}. */
public class RemoveMember {
    public static void main(String[] args) throws Exception {
        try (Admin admin = Admin.create(Map.of("bootstrap.servers", args[0]))) {
            Set<MemberToRemove> members = Set.of(new MemberToRemove(args[2]));
            admin.removeMembersFromConsumerGroup(args[1], new RemoveMembersFromConsumerGroupOptions(members)).all().get();
        }
    }
}
